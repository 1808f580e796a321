"""The shape of a small tree of rows behind a cached text: who descends from whom, who sees whom.

A row is one token in a KV cache. Rows are numbered from 0 in the order in which they were computed,
parents before their children. Knows nothing of tokens, caches or runtimes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

TEXT_END: Final = -1
"""The parent of a row that follows the last token of the text."""

MAX_ROWS: Final = 128
"""The most rows that a tree holds."""

HIDDEN: Final = -1e9
"""Added to the attention score of a row that must not be seen; its softmax is then exactly zero."""

Floats = NDArray[np.float32]


class RowTree:
    """Depths and visibility of rows: a row sees the text, its ancestors and itself."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._bias: Floats = np.full((MAX_ROWS, MAX_ROWS), HIDDEN, np.float32)  # [row, seen row]

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._parents)

    def append(self, parents: Sequence[int]) -> None:
        """Add rows.

        Args:
            parents: of each new row the number of an earlier row, or `TEXT_END`.

        Raises:
            ValueError: a parent does not come before its child, or there are more than `MAX_ROWS`.
        """
        first = self.num_rows
        if first + len(parents) > MAX_ROWS:
            raise ValueError(f"{first + len(parents)} rows; a tree holds {MAX_ROWS} at most")
        if any(not TEXT_END <= parent < first + i for i, parent in enumerate(parents)):
            raise ValueError(f"the parents {list(parents)} of rows from {first} on are not earlier")
        for parent in parents:
            self._append(parent)

    def depths(self, first: int) -> list[int]:
        """How many ancestors each of the rows from `first` on has."""
        return self._depths[first:]

    def bias(self, first: int) -> Floats:
        """What to add to the attention scores of the rows from `first` on.

        Returns:
            [num_rows - first, num_rows]: 0 where a row sees another, else `HIDDEN`. A view.
        """
        return self._bias[first : self.num_rows, : self.num_rows]

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """Forget all other rows; see `renumbered`."""
        parents = renumbered(self._parents, rows, num_text)
        stay = list(rows[num_text:])
        num_rows = len(stay)
        self._bias[:num_rows, :num_rows] = self._bias[np.ix_(stay, stay)]
        self._bias[num_rows:] = HIDDEN
        self._depths = [self._depths[row] - num_text for row in stay]
        self._parents = parents

    def _append(self, parent: int) -> None:
        row = self.num_rows
        if parent != TEXT_END:
            self._bias[row, : parent + 1] = self._bias[parent, : parent + 1]
        self._bias[row, row] = 0
        self._depths.append(0 if parent == TEXT_END else self._depths[parent] + 1)
        self._parents.append(parent)


def renumbered(parents: Sequence[int], rows: Sequence[int], num_text: int) -> list[int]:
    """The parents that rows have once some of them have become text and others are forgotten.

    Row `rows[num_text + i]` becomes row i.

    Args:
        parents: of all rows.
        rows: which to keep, ascending.
        num_text: so many of them become text: a chain that begins at the end of the text. The
            others must descend from its end.

    Raises:
        ValueError: a row that is kept hangs from one that is not, or from the text before its end.
    """
    if any(row >= later for row, later in pairwise(rows)):
        raise ValueError(f"the rows {list(rows)} do not ascend")
    # Below -1 are the rows that become text, the last of them at -1, which is the text's new end.
    places = {TEXT_END: -1 - num_text} | {row: i - num_text for i, row in enumerate(rows)}
    nowhere = -2 - num_text
    kept = [places.get(parents[row], nowhere) for row in rows]
    is_chain = kept[:num_text] == list(range(-1 - num_text, -1))
    if not is_chain or any(parent < TEXT_END for parent in kept[num_text:]):
        raise ValueError(f"the rows {list(rows)} hang from rows that are not kept")
    return kept[num_text:]
