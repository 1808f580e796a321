"""The places of the grid, the prompts that run together, and whose turn it is.

Pure. Knows nothing of what is measured there.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from outrider_bench.results import Circumstances, Request
from outrider_common.errors import ConfigError
from outrider_common.recording import Recording

_Item = TypeVar("_Item")

_AXES = (
    ("pairs", "drafter bundle"),
    ("policies", "policy"),
    ("rtt_ms", "round-trip time"),
    ("bandwidth_mbps", "bandwidth"),
    ("sessions", "number of sessions"),
    ("temperatures", "temperature"),
)


def check_request(request: Request) -> None:
    """Refuse a grid of nothing, and numbers that cannot be measured.

    Raises:
        ConfigError: naming the axis or the number.
    """
    for axis, what in _AXES:
        values: tuple[Any, ...] = getattr(request, axis)
        if not values:
            raise ConfigError(f"The grid has no {what}; give at least one.")
        if len(set(values)) != len(values):
            raise ConfigError(f"The grid has a {what} twice; give each once.")
    if Recording.is_meant_by(request.target) and any(request.temperatures):
        raise ConfigError(f"'{request.target}' holds greedy answers only; give --temperature 0.")


def num_prompts_at(request: Request, sessions: int) -> int:
    """How many prompts a round has with so many sessions: one for each of them at least."""
    return max(request.num_prompts, sessions)


def places(request: Request) -> list[Circumstances]:
    """All places of the grid; the round-trip time changes most often."""
    axes = itertools.product(
        request.pairs,
        request.temperatures,
        request.sessions,
        request.bandwidth_mbps,
        request.rtt_ms,
    )
    return [
        Circumstances(
            pair=pair,
            rtt_ms=rtt_ms,
            bandwidth_mbps=bandwidth_mbps,
            sessions=sessions,
            temperature=temperature,
        )
        for pair, temperature, sessions, bandwidth_mbps, rtt_ms in axes
    ]


def batches(items: Sequence[_Item], size: int) -> list[tuple[_Item, ...]]:
    """Cut into batches of one size; the last one is filled up from the beginning.

    Args:
        items: at least `size`.
        size: at least 1.
    """
    endless = itertools.cycle(items)
    return [tuple(itertools.islice(endless, size)) for _ in range(-(-len(items) // size))]


def in_turn(items: Sequence[_Item], turn: int) -> Iterator[_Item]:
    """All items once, another one first in each turn: nobody always follows the same one idle."""
    first = turn % len(items)
    return itertools.chain(items[first:], items[:first])


def spread_over_tasks(tasks: Sequence[str], num_wanted: int) -> list[int]:
    """Indices of items: as many of each task as of any other, and evenly spread within it.

    Neighbours in the result are of different tasks as far as that goes.

    Raises:
        ConfigError: there are fewer items.
    """
    if num_wanted > len(tasks):
        raise ConfigError(
            f"{num_wanted} prompts are wanted, but the file has {len(tasks)}; lower --num-prompts "
            "or --sessions."
        )
    of_task: dict[str, list[int]] = {}
    for index, task in enumerate(tasks):
        of_task.setdefault(task, []).append(index)
    counts = _fair_counts([len(indices) for indices in of_task.values()], num_wanted)
    chosen = [
        _evenly(indices, count) for indices, count in zip(of_task.values(), counts, strict=True)
    ]
    ranks = itertools.zip_longest(*chosen)
    return [index for rank in ranks for index in rank if index is not None]


def _fair_counts(sizes: Sequence[int], num_wanted: int) -> list[int]:
    counts = [0] * len(sizes)
    for place in itertools.cycle(range(len(sizes))):
        if sum(counts) == num_wanted:
            return counts
        counts[place] += counts[place] < sizes[place]
    raise AssertionError("a cycle does not end")


def _evenly(items: Sequence[_Item], count: int) -> list[_Item]:
    return [items[i * len(items) // count] for i in range(count)]
