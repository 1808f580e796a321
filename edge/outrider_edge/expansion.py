"""Where the next draft step is worth most, and whether it is worth anything.

Pure: outlooks in, a figure out. Knows nothing of trees, of proposers, or of how chances are
estimated.
"""

from dataclasses import dataclass
from typing import Final

from outrider_edge.arrival import Forecast

LEAST_GAIN: Final = 0.02
"""Below this many tokens a draft step, a device has better things to do."""

HORIZON: Final = 32
"""So many steps are looked ahead."""


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
        total += in_time * (probability - price)
        best = max(best, total / step)
    return best
