"""A pass as arrays: where each row stands, what it sees, and where its keys and values go.

Made once a pass from its segments, and used by the attention of every layer. Knows nothing of
models or of how the cache is laid out in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.target import CACHED_TEXT, Rows, Segment

Ints = NDArray[np.int64]

_ITSELF: Final = np.ones((1, 1), dtype=bool)


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
        sizes = np.array([len(segment.rows.tokens) for segment in segments], dtype=np.int64)
        lengths = np.array([segment.length for segment in segments], dtype=np.int64)
        begins = np.concatenate([[0], np.cumsum(sizes)])
        segment_of = np.repeat(np.arange(len(segments)), sizes)
        row = np.arange(begins[-1]) - begins[segment_of]  # counted within its segment
        page_tables = _page_tables(segments)
        place, offset = np.divmod(lengths[segment_of] + row, page_tokens)
        is_wanted = row >= _first_logits_rows(segments)[segment_of]
        return cls(
            tokens=_flat([segment.rows.tokens for segment in segments]),
            positions=lengths[segment_of] + _depths(segments, row, begins),
            slots=page_tables[segment_of, place] * page_tokens + offset,
            wanted=np.flatnonzero(is_wanted),
            lengths=lengths,
            begins=begins,
            page_tables=page_tables,
            sees=np.concatenate([ancestry(segment.rows).reshape(-1) for segment in segments]),
            sees_begins=np.concatenate([[0], np.cumsum(sizes**2)[:-1]]),
        )


def ancestry(rows: Rows) -> NDArray[np.bool_]:
    """Which rows each row sees: itself and its ancestors; [rows, rows]."""
    num_rows = len(rows.tokens)
    if num_rows == 1:
        return _ITSELF
    if rows.is_chain:
        return np.tri(num_rows, dtype=bool)
    sees = np.eye(num_rows, dtype=bool)
    for row, parent in enumerate(rows.parents):
        if parent != CACHED_TEXT:
            sees[row] |= sees[parent]
    return sees


def _depths(segments: Sequence[Segment], row: Ints, begins: Ints) -> Ints:
    """How many rows the path of each row has above it, [rows]: in a chain all before it."""
    depths = row.copy()
    for segment, begin in zip(segments, begins.tolist(), strict=False):
        if not segment.rows.is_chain:
            depths[begin : begin + len(segment.rows.tokens)] = segment.rows.depths()
    return depths


def _first_logits_rows(segments: Sequence[Segment]) -> Ints:
    return np.array([segment.rows.first_logits_row for segment in segments], dtype=np.int64)


def _page_tables(segments: Sequence[Segment]) -> Ints:
    tables = np.zeros((len(segments), max(len(segment.pages) for segment in segments)), np.int64)
    for table, segment in zip(tables, segments, strict=True):
        table[: len(segment.pages)] = segment.pages
    return tables


def _flat(lists: Sequence[Sequence[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(lists), dtype=np.int64)
