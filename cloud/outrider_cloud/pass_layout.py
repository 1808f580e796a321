"""A pass as arrays: where each row stands, what it sees, and where its keys and values go.

Made once a pass from its segments, and used by the attention of every layer. Knows nothing of
models or of how the cache is laid out in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.target import CACHED_TEXT, Rows, Segment

Ints = NDArray[np.int64]

MAX_KEPT_ROWS: Final = 64
"""What follows from the parents of so many rows, or fewer, is worked out once and kept."""

MAX_KEPT: Final = 1024
"""So many trees are kept, those that were seen last: a few MiB at most, whatever edges send."""


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
        trees = [tree_of(segment.rows.parents) for segment in segments]
        place, offset = np.divmod(lengths[segment_of] + row, page_tokens)
        is_wanted = row >= _first_logits_rows(segments)[segment_of]
        return cls(
            tokens=_flat([segment.rows.tokens for segment in segments]),
            positions=lengths[segment_of] + np.concatenate([tree.depths for tree in trees]),
            slots=page_tables[segment_of, place] * page_tokens + offset,
            wanted=np.flatnonzero(is_wanted),
            lengths=lengths,
            begins=begins,
            page_tables=page_tables,
            sees=np.concatenate([tree.sees for tree in trees]),
            sees_begins=np.concatenate([[0], np.cumsum(sizes**2)[:-1]]),
        )


class Tree(NamedTuple):
    """What follows from the parents of a segment's rows alone; many passes have the same.

    Attributes:
        depths: how many rows the path of each row has above it: in a chain all before it, [rows].
        sees: which rows each row sees: itself and its ancestors; flat, [rows * rows].
    """

    depths: Ints
    sees: NDArray[np.bool_]


def tree_of(parents: tuple[int, ...]) -> Tree:
    """The tree of rows with these parents; its arrays are kept, so they cannot be written to."""
    return _kept_tree(parents) if len(parents) <= MAX_KEPT_ROWS else _tree(parents)


def ancestry(rows: Rows) -> NDArray[np.bool_]:
    """Which rows each row sees: itself and its ancestors; [rows, rows]."""
    return tree_of(rows.parents).sees.reshape(len(rows.tokens), -1)


def _tree(parents: tuple[int, ...]) -> Tree:
    num_rows = len(parents)
    if parents == tuple(range(CACHED_TEXT, num_rows - 1)):  # a chain
        return _read_only(np.arange(num_rows), np.tri(num_rows, dtype=bool))
    sees = np.eye(num_rows, dtype=bool)
    for row, parent in enumerate(parents):
        if parent != CACHED_TEXT:
            sees[row] |= sees[parent]
    return _read_only(sees.sum(axis=1) - 1, sees)


_kept_tree = lru_cache(MAX_KEPT)(_tree)


def _read_only(depths: Ints, sees: NDArray[np.bool_]) -> Tree:
    tree = Tree(depths, sees.reshape(-1))
    for array in tree:
        array.flags.writeable = False
    return tree


def _first_logits_rows(segments: Sequence[Segment]) -> Ints:
    return np.array([segment.rows.first_logits_row for segment in segments], dtype=np.int64)


def _page_tables(segments: Sequence[Segment]) -> Ints:
    sizes = np.array([len(segment.pages) for segment in segments])
    tables = np.zeros((len(segments), sizes.max()), np.int64)
    tables[np.arange(sizes.max()) < sizes[:, None]] = _flat([one.pages for one in segments])
    return tables


def _flat(lists: Sequence[Sequence[int]]) -> Ints:
    return np.fromiter(chain.from_iterable(lists), dtype=np.int64)
