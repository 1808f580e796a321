"""Counting values in buckets, cheaply enough for the engine's thread.

Plain lists and a binary search; one thread counts, any other may read meanwhile. Knows nothing of
what the values mean or of how they are exported.
"""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """How many values lay in which range, and their sum.

    Args:
        bounds: the largest value of each bucket, rising; a last bucket holds what is above.
    """

    __slots__ = ("_counts", "_sum", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """A value came, so many times."""
        self._counts[bisect_left(self.bounds, value)] += times
        self._sum += value * times

    @property
    def sum(self) -> float:
        """All values together."""
        return self._sum

    def cumulative(self) -> list[int]:
        """For each bound how many values were at most that; at the end how many there were."""
        so_far = 0
        sums = []
        for count in tuple(self._counts):
            so_far += count
            sums.append(so_far)
        return sums
