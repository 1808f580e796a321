"""Where the tokens of many segments are cached, worked out for all of them at once with NumPy.

For targets that compute no keys and values. Knows nothing of what is cached.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.target import Segment

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PageTables:
    """Where each segment's tokens are cached.

    Attributes:
        pages: the page tables, behind one another.
        begins: where each segment's begins, [segments].
        lengths: the cached tokens of each segment, [segments].
        page_tokens: tokens that a page has room for.
    """

    pages: Ints
    begins: Ints
    lengths: Ints
    page_tokens: int

    @classmethod
    def of(cls, segments: Sequence[Segment], page_tokens: int) -> "PageTables":
        """Those of segments."""
        sizes = [len(segment.pages) for segment in segments]
        return cls(
            pages=ints(chain.from_iterable(segment.pages for segment in segments), sum(sizes)),
            begins=begins(sizes),
            lengths=ints((segment.length for segment in segments), len(segments)),
            page_tokens=page_tokens,
        )

    def slots(self, owners: Ints, places: Ints) -> Ints:
        """The slots of the given places, counted from the start of the owners' page tables."""
        pages = self.pages[self.begins[owners] + places // self.page_tokens]
        slots: Ints = pages * self.page_tokens + places % self.page_tokens
        return slots

    def slots_of_rows(self, segments: Sequence[Segment]) -> Ints:
        """The slots of the rows of all segments, in their order."""
        owners, offsets = within([len(segment.rows.tokens) for segment in segments])
        return self.slots(owners, self.lengths[owners] + offsets)


def within(sizes: Sequence[int]) -> tuple[Ints, Ints]:
    """For the members of groups of these sizes: which group, and which place within it."""
    owners = np.repeat(np.arange(len(sizes)), sizes)
    return owners, np.arange(len(owners)) - begins(sizes)[owners]


def begins(sizes: Sequence[int]) -> Ints:
    """Where each of several groups begins when they stand behind one another."""
    return ints(accumulate(sizes, initial=0), len(sizes))


def ints(numbers: Iterable[int], count: int) -> Ints:
    """So many numbers as an array."""
    return np.fromiter(numbers, dtype=np.int64, count=count)
