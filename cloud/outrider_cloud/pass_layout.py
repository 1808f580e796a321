"""A pass as arrays: where each row stands, what it sees, and where its keys and values go.

Made once a pass from its segments, and used by the attention of every layer. Knows nothing of
models or of how the cache is laid out in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.target import CACHED_TEXT, Rows, Segment

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PassLayout:
    """The arrays of a pass.

    Attributes:
        tokens: [rows].
        positions: where each row stands in the text that its path makes, [rows].
        slots: the slot of the cache that each row is written to, [rows].
        wanted: the rows whose logits are wanted, rising.
        lengths: the cached tokens of each segment, [segments].
        begins: where each segment begins among the rows, and the number of rows, [segments + 1].
        page_tables: [segments, the most pages]; what is behind a segment's pages is 0.
        sees: for each segment which of its rows see which, [rows of it, rows of it], flat and
            behind one another.
        sees_begins: where each segment begins in `sees`, [segments].
    """

    tokens: Ints
    positions: Ints
    slots: Ints
    wanted: Ints
    lengths: Ints
    begins: Ints
    page_tables: Ints
    sees: NDArray[np.bool_]
    sees_begins: Ints

    @classmethod
    def of(cls, segments: Sequence[Segment], page_tokens: int) -> "PassLayout":
        """The arrays of these segments."""
        sizes = [len(segment.rows.tokens) for segment in segments]
        begins = list(accumulate(sizes, initial=0))
        sees = [ancestry(segment.rows) for segment in segments]
        return cls(
            tokens=_ints(chain.from_iterable(segment.rows.tokens for segment in segments)),
            positions=np.concatenate([_positions(segment) for segment in segments]),
            slots=np.concatenate([_slots(segment, page_tokens) for segment in segments]),
            wanted=np.concatenate(
                [
                    np.arange(begin + segment.rows.first_logits_row, end)
                    for segment, begin, end in zip(segments, begins, begins[1:], strict=False)
                ]
            ),
            lengths=_ints(segment.length for segment in segments),
            begins=_ints(begins),
            page_tables=_page_tables(segments),
            sees=np.concatenate([matrix.reshape(-1) for matrix in sees]),
            sees_begins=_ints(accumulate((size * size for size in sizes[:-1]), initial=0)),
        )


def ancestry(rows: Rows) -> NDArray[np.bool_]:
    """Which rows each row sees: itself and its ancestors; [rows, rows]."""
    num_rows = len(rows.tokens)
    if rows.is_chain:
        return np.tri(num_rows, dtype=bool)
    sees = np.eye(num_rows, dtype=bool)
    for row, parent in enumerate(rows.parents):
        if parent != CACHED_TEXT:
            sees[row] |= sees[parent]
    return sees


def _positions(segment: Segment) -> Ints:
    return np.array(segment.rows.depths(), dtype=np.int64) + segment.length


def _slots(segment: Segment, page_tokens: int) -> Ints:
    places = np.arange(segment.length, segment.length + len(segment.rows.tokens))
    first = segment.length // page_tokens
    pages = _ints(segment.pages[first:])
    return pages[places // page_tokens - first] * page_tokens + places % page_tokens


def _page_tables(segments: Sequence[Segment]) -> Ints:
    tables = np.zeros((len(segments), max(len(segment.pages) for segment in segments)), np.int64)
    for table, segment in zip(tables, segments, strict=True):
        table[: len(segment.pages)] = segment.pages
    return tables


def _ints(numbers: object) -> Ints:
    return np.array(list(numbers), dtype=np.int64)  # type: ignore[call-overload]
