"""Which tokens a draft model's cache holds behind its text: a small tree, found by its paths.

The counterpart of a sequence's rows: the numbers are the same. Knows nothing of logits, caches or
runtimes.
"""

from collections.abc import Sequence

from outrider_edge.row_tree import TEXT_END, renumbered


class CachedTree:
    """Tokens and parents of rows; no two rows that can be found have the same path."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._children: dict[tuple[int, int], int] = {}  # by parent and token

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self._tokens)

    def since(self, first: int) -> tuple[list[int], list[int]]:
        """The tokens and the parents of the rows from `first` on."""
        return self._tokens[first:], self._parents[first:]

    def walk(self, path: Sequence[int]) -> list[int]:
        """The rows that hold the beginning of a path from the end of the text."""
        rows: list[int] = []
        row = TEXT_END
        for token in path:
            child = self._children.get((row, token))
            if child is None:
                break
            rows.append(child)
            row = child
        return rows

    def append(self, token: int, parent: int) -> int:
        """Add a row and return its number.

        If there is one of this path already, it stays the one that is found: the new one is there
        for its logits only.
        """
        row = self.num_rows
        self._tokens.append(token)
        self._parents.append(parent)
        self._children.setdefault((parent, token), row)
        return row

    def below(self, row: int) -> list[int]:
        """The rows that descend from a row and can be found, ascending."""
        alive = {row}
        for child in range(row + 1, self.num_rows):
            if self._parents[child] in alive and self._is_found(child):
                alive.add(child)
        return sorted(alive - {row})

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """Forget all other rows; see `renumbered`."""
        self._parents = renumbered(self._parents, rows, num_text)
        self._tokens = [self._tokens[row] for row in rows[num_text:]]
        self._children = {}
        for row, place in enumerate(zip(self._parents, self._tokens, strict=True)):
            self._children.setdefault(place, row)

    def _is_found(self, row: int) -> bool:
        return self._children[self._parents[row], self._tokens[row]] == row
