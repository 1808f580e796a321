"""The rows of a pass as tiles: equal numbers of rows of one segment, and the pages that they see.

Kernels that want all pieces of equal size get them, although segments differ; a tile reads the
pages of its own segment and no others. Pure arithmetic on arrays; knows nothing of torch.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.pass_layout import MAX_KEPT, MAX_KEPT_ROWS, Ints, PassLayout


@dataclass(frozen=True, slots=True)
class Tiles:
    """The rows of a pass, cut into tiles; no tile has rows of two segments.

    Attributes:
        rows: the rows of each tile; what it lacks is filled up with its first one, [tiles, size].
        segments: whose rows they are, rising, [tiles].
        places: where each row stands in `rows`, flat, [rows].
    """

    rows: Ints
    segments: Ints
    places: Ints

    @classmethod
    def of(cls, begins: Ints, size: int) -> "Tiles":
        """Cut the segments, of which `begins` says where they begin, into tiles of `size` rows."""
        sizes = np.diff(begins)
        num_tiles = -(-sizes // size)
        first_tiles = np.cumsum(num_tiles) - num_tiles
        segments = np.repeat(np.arange(len(sizes)), num_tiles)
        first_rows = begins[segments] + size * (np.arange(len(segments)) - first_tiles[segments])
        rows = first_rows[:, None] + np.arange(size)
        rows = np.where(rows < begins[segments + 1][:, None], rows, first_rows[:, None])
        places = np.arange(begins[-1]) + np.repeat(size * first_tiles - begins[:-1], sizes)
        return cls(rows, segments, places)


@dataclass(frozen=True, slots=True)
class PageLists:
    """The pages that each tile has to read.

    Attributes:
        counts: how many, [tiles].
        pages: which, in the order of the text; what is behind a tile's own is 0, [tiles, most].
    """

    counts: Ints
    pages: Ints

    @classmethod
    def of(
        cls, layout: PassLayout, tiles: Tiles, page_tokens: int, window: int | None
    ) -> "PageLists":
        """The pages with anything that any row of a tile sees.

        Args:
            layout: of the pass.
            tiles: of its rows.
            page_tokens: tokens of a page.
            window: how many positions a row sees, itself included; None is all.
        """
        last_places = layout.lengths[tiles.segments] + (
            tiles.rows.max(axis=1) - layout.begins[tiles.segments]
        )
        ends = last_places // page_tokens + 1
        firsts = np.zeros_like(ends)
        if window is not None:
            # A row never stands before its position, so nothing that is seen stands before this.
            oldest = layout.positions[tiles.rows].min(axis=1) - window + 1
            firsts = np.maximum(oldest, 0) // page_tokens
        counts = ends - firsts
        columns = np.arange(counts.max())
        indices = np.minimum(firsts[:, None] + columns, layout.page_tables.shape[1] - 1)
        pages = layout.page_tables[tiles.segments[:, None], indices]
        return cls(counts, np.where(columns < counts[:, None], pages, 0))


@dataclass(frozen=True, slots=True)
class PagePlaces:
    """Which page stands where in the text of which segment: one entry for every page in use."""

    segments: Ints
    pages: Ints
    indices: Ints

    @classmethod
    def of(cls, layout: PassLayout, page_tokens: int) -> "PagePlaces":
        """Of the pages that hold text or rows of the pass."""
        num_tokens = layout.lengths + np.diff(layout.begins)
        num_pages = -(-num_tokens // page_tokens)
        in_use = np.arange(layout.page_tables.shape[1]) < num_pages[:, None]
        segments, indices = np.nonzero(in_use)
        return cls(segments, layout.page_tables[segments, indices], indices)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Each row's place in a walk through the trees, and where the walk has left its subtree.

    Row a is row b, or above it, exactly if enters[a] <= enters[b] < exits[a] (P. F. Dietz,
    "Maintaining order in a linked list", STOC 1982): two numbers for each row instead of a matrix.

    Attributes:
        enters: how many rows the walk meets before this one, parents before children, [rows].
        exits: `enters` of the first row that is met after the row's subtree, [rows].
    """

    enters: Ints
    exits: Ints

    @classmethod
    def of(cls, layout: PassLayout) -> "Intervals":
        """One walk through the segments of a pass, one after the other."""
        sizes = np.diff(layout.begins)
        ends = (layout.sees_begins + sizes**2).tolist()
        walks = [
            _walk(layout.sees[at:end])
            for at, end in zip(layout.sees_begins.tolist(), ends, strict=True)
        ]
        enters = np.repeat(layout.begins[:-1], sizes) + np.concatenate([one[0] for one in walks])
        return cls(enters, enters + np.concatenate([one[1] for one in walks]))


def _walk(sees: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """`Intervals.enters` within one segment, and the size of each row's subtree.

    Args:
        sees: which row sees which, flat; what follows from it is kept where it is small.
    """
    if len(sees) > MAX_KEPT_ROWS**2:
        return _walk_through(sees.tobytes())
    return _kept_walk(sees.tobytes())


def _walk_through(sees: bytes) -> tuple[Ints, Ints]:
    flat = np.frombuffer(sees, dtype=bool)
    square = flat.reshape(math.isqrt(len(flat)), -1)
    walk = _enters(square), square.sum(axis=0)
    for array in walk:
        array.flags.writeable = False
    return walk


_kept_walk = lru_cache(MAX_KEPT)(_walk_through)


def _enters(sees: NDArray[np.bool_]) -> Ints:
    """`Intervals.enters` within one segment, from which row sees which."""
    num_rows = len(sees)
    if sees[-1].all():  # a chain
        return np.arange(num_rows)
    sizes = sees.sum(axis=0).tolist()  # of each row's subtree
    enters = []
    free = [0] * (num_rows + 1)  # where the next child goes; the last is above all rows
    for row, parent in enumerate(_parents(sees)):
        enters.append(free[parent])
        free[parent] += sizes[row]
        free[row] = enters[row] + 1
    return np.array(enters, dtype=np.int64)


def _parents(sees: NDArray[np.bool_]) -> list[int]:
    """The last of the rows above each one, or -1."""
    above = np.tril(sees, -1) * np.arange(1, len(sees) + 1)
    parents: list[int] = (above.max(axis=1) - 1).tolist()
    return parents
