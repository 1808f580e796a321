"""Passes that are filled up with rows of nobody, so that kernels see few numbers of rows.

Such rows are segments like others: they see only themselves, want no logits, and write to pages
that the engine does not know of. Pure; knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from outrider_cloud.target import CACHED_TEXT, Rows, Segment

_TOKEN: Final = 0  # any that every vocabulary has


@dataclass(frozen=True, slots=True)
class RowPadding:
    """To how many rows a pass is filled up.

    Attributes:
        fixed_rows: to a multiple of this; 0 does not.
        largest_bucket: without `fixed_rows`, passes of up to so many rows are filled up to a power
            of two; 0 does not. A power of two.
    """

    fixed_rows: int = 0
    largest_bucket: int = 0

    def padded(self, num_rows: int) -> int:
        """How many rows so many become; none stay none."""
        if self.fixed_rows:
            return -(-num_rows // self.fixed_rows) * self.fixed_rows
        return next_power_of_two(num_rows) if 0 < num_rows <= self.largest_bucket else num_rows

    def num_pages(self, page_tokens: int) -> int:
        """How many pages have to be kept for rows of nobody."""
        most_rows = self.fixed_rows - 1 if self.fixed_rows else self.largest_bucket // 2 - 1
        return -(-max(most_rows, 0) // page_tokens)

    def pad(
        self, segments: Sequence[Segment], page_tokens: int, first_page: int
    ) -> Sequence[Segment]:
        """The segments, and behind them those of nobody.

        Args:
            segments: of the pass.
            page_tokens: tokens of a page.
            first_page: from here on pages are kept for rows of nobody.
        """
        num_rows = sum(len(segment.rows.tokens) for segment in segments)
        num_missing = self.padded(num_rows) - num_rows
        starts = range(0, num_missing, page_tokens)
        return [
            *segments,
            *(
                _of_nobody(min(page_tokens, num_missing - start), first_page + index)
                for index, start in enumerate(starts)
            ),
        ]


def next_power_of_two(number: int) -> int:
    """The smallest power of two that is not below a number of at least 1."""
    return 1 << (number - 1).bit_length()


def _of_nobody(num_rows: int, page: int) -> Segment:
    rows = Rows((_TOKEN,) * num_rows, (CACHED_TEXT,) * num_rows, first_logits_row=num_rows)
    return Segment((page,), 0, rows)
