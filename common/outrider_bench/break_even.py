"""Up to which round trip a policy pays: where its speed-up falls below 1. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where a policy stops paying, on a grid of round trips.

    Attributes:
        rtt_ms: between two points of the grid, by a straight line; None: nowhere on the grid.
        pays_at_first: whether it pays at the shortest round trip.
        longest_ms: the longest round trip that was measured.
    """

    rtt_ms: float | None
    pays_at_first: bool
    longest_ms: float

    def __str__(self) -> str:
        if not self.pays_at_first:
            return "never pays on the grid"
        if self.rtt_ms is None:
            return f"pays up to {self.longest_ms:g} ms and beyond the grid"
        return f"{self.rtt_ms:.0f} ms"


def break_even(points: Sequence[tuple[float, float]]) -> BreakEven:
    """The first crossing of 1.

    Args:
        points: round trips in milliseconds and speed-ups, by round trip; at least one.
    """
    longest = points[-1][0]
    if points[0][1] < 1:
        return BreakEven(None, False, longest)
    for (before, above), (after, below) in pairwise(points):
        if below < 1:
            share = (above - 1) / (above - below)
            return BreakEven(before + share * (after - before), True, longest)
    return BreakEven(None, True, longest)
