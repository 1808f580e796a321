"""Where the next run of the drafter is worth most, what it should cover, and what is worth sending.

Pure: outlooks in, figures out. Knows nothing of trees, of proposers, or of how chances are
estimated.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from outrider_edge.arrival import Forecast

LEAST_GAIN: Final = 0.01
"""Below this many tokens a draft step, a device has better things to do."""

HORIZON: Final = 32
"""So many steps are looked ahead."""

MAX_LEAVES: Final = 8
"""The most leaves that one run expands: what a drafter computes of more is rarely of use."""

_CERTAIN: Final = 0.99
"""What arrives with at least this chance does not arrive much better later."""

_MOST_HOPE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is expected of a node, as far as it concerns what may follow it.

    Attributes:
        probability: the chance that its whole path is committed.
        next_start_s: when the pass begins that decides the position below it.
    """

    probability: float
    next_start_s: float


def gain_per_step(
    outlook: Outlook, forecast: Forecast, *, hope: float, price: float, room: int, num_steps: int
) -> float:
    """The tokens that drafting on from a node gives, for each step, net of what rows cost.

    The k-th node from here is committed with chance P h^k, where P is the node's own chance and h
    that of a good guess, costs a row worth `price`, and does both only if it arrives, with chance
    q(k); one that is too late is only a way to later ones. A run of n steps therefore gives

        (1 / n) sum over k <= n of q(k) (P h^k - price),

    and the result is the largest over n: a step is worth what the best run gives for each of
    its steps (the index of Gittins 1979). With everything in time and no price it is P h, and
    always taking the largest is best-first search.

    Args:
        outlook: of the node to draft from.
        forecast: of the verifier's next passes.
        hope: h, in [0, 1].
        price: the least chance of being committed that is worth a row.
        room: how many nodes may be drafted at once; those after them wait for commits.
        num_steps: how many nodes may follow in a chain in the end; no more than `HORIZON` count.
    """
    probability, start_s = outlook.probability, outlook.next_start_s
    total = best = 0.0
    for step in range(1, min(num_steps, HORIZON) + 1):
        probability *= hope
        if probability < max(price, LEAST_GAIN):  # not worth a row, nor is what follows it
            break
        in_time = forecast.chance(start_s, forecast.arrival_of_step_s(step, room))
        start_s = forecast.next_start_s(start_s, in_time)
        gain = in_time * (probability - price)
        total += gain
        best = max(best, total / step)
        if gain < best and in_time > _CERTAIN:  # later steps give less and less
            break
    return best


def num_leaves(gains: Sequence[float], share: float) -> int:
    """How many of some leaves a run should expand so that it gives most for its time.

    A run over m leaves takes 1 + (m - 1) `share` times as long as one over a single leaf: weights
    are read once.

    Args:
        gains: what a step from each leaf gives, falling.
        share: what one more leaf adds to the time of a run over one.
    """
    total, best, count = 0.0, 0.0, 0
    for number, gain in enumerate(gains[:MAX_LEAVES], start=1):
        total += gain
        rate = total / (1 + (number - 1) * share)
        if rate <= best:
            break
        best, count = rate, number
    return count


def num_likelier(value: float, leaves: Iterable[float], hope: float) -> int:
    """How many nodes that are still to be drafted are likelier to be committed than a given one.

    From a leaf of probability P, good guesses have the probabilities P h, P h^2, ...: those above
    `value` are the first log(value / P) / log(h) of them.

    Args:
        value: the chance that the node is committed, above 0.
        leaves: the same of the leaves that are still to be expanded.
        hope: h, the chance of a good guess.
    """
    per_step = math.log(min(hope, _MOST_HOPE)) if hope > 0 else -math.inf
    likelier = (leaf for leaf in leaves if leaf > value)
    return sum(int(math.log(value / leaf) / per_step) for leaf in likelier)
