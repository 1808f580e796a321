"""With how many sessions a policy still keeps to a time per token, on a grid of sessions. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most sessions within a time per token.

    Attributes:
        sessions: between two points of the grid, by a straight line.
        is_least: even the fewest sessions that were measured take longer.
        is_most: so do not the most that were measured, and these are `sessions`.
    """

    sessions: float
    is_least: bool = False
    is_most: bool = False

    def __str__(self) -> str:
        if self.is_least:
            return f"fewer than {self.sessions:g}"
        return f"{self.sessions:g} or more" if self.is_most else f"{self.sessions:.0f}"


def capacity(points: Sequence[tuple[int, float]], limit_ms: float) -> Capacity:
    """Up to how many sessions the time per token stays within a limit: its first crossing.

    Args:
        points: sessions and milliseconds per token, by sessions; at least one.
        limit_ms: the most that a token may take.
    """
    fewest, first_ms = points[0]
    if first_ms > limit_ms:
        return Capacity(fewest, is_least=True)
    for (few, few_ms), (many, many_ms) in pairwise(points):
        if many_ms > limit_ms:
            share = (limit_ms - few_ms) / (many_ms - few_ms)
            return Capacity(few + share * (many - few))
    return Capacity(points[-1][0], is_most=True)
