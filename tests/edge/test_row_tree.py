"""The shape of a tree of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.row_tree import HIDDEN, MAX_ROWS, TEXT_END, RowTree, renumbered

PARENTS = st.integers(1, 14).flatmap(
    lambda n: st.tuples(*(st.integers(TEXT_END, row - 1) for row in range(n))).map(list)
)


def ancestors(parents: list[int], row: int) -> list[int]:
    return [] if row == TEXT_END else [*ancestors(parents, parents[row]), row]


def assert_shape(tree: RowTree, parents: list[int]) -> None:
    paths = [ancestors(parents, row) for row in range(len(parents))]
    assert tree.num_rows == len(parents)
    assert tree.depths(0) == [len(path) - 1 for path in paths]
    for row, path in enumerate(paths):
        seen = np.flatnonzero(tree.bias(0)[row] == 0)
        assert seen.tolist() == path
        assert set(tree.bias(row)[0].tolist()) <= {0.0, HIDDEN}


@given(PARENTS, st.integers(0, 14))
def test_a_row_sees_its_ancestors_and_itself(parents: list[int], first: int) -> None:
    tree = RowTree()
    tree.append(parents[:first])
    tree.append(parents[first:])
    assert_shape(tree, parents)


@given(PARENTS, st.data())
def test_what_is_kept_keeps_its_shape(parents: list[int], data: st.DataObject) -> None:
    tree = RowTree()
    tree.append(parents)
    text = ancestors(parents, data.draw(st.integers(TEXT_END, len(parents) - 1)))
    paths = [ancestors(parents, row) for row in range(len(parents))]
    below = [row for row, path in enumerate(paths) if path[: len(text)] == text and row not in text]
    chosen = data.draw(st.sets(st.sampled_from(below))) if below else set()
    rows = sorted({row for leaf in chosen for row in paths[leaf]} - set(text))
    tree.keep([*text, *rows], len(text))
    kept = [rows.index(parents[row]) if parents[row] in rows else TEXT_END for row in rows]
    assert_shape(tree, kept)
    tree.append([TEXT_END, *range(len(rows))])
    assert_shape(tree, [*kept, TEXT_END, *range(len(rows))])


@pytest.mark.parametrize(
    ("rows", "num_text"),
    [
        ((1,), 0),  # its parent is forgotten
        ((0, 2), 1),  # a sibling of what becomes text
        ((0, 2), 2),  # no chain
        ((1, 0), 0),
        ((0, 0), 0),
    ],
)
def test_rows_whose_place_is_lost_cannot_be_kept(rows: tuple[int, ...], num_text: int) -> None:
    with pytest.raises(ValueError, match="rows"):
        renumbered([TEXT_END, 0, TEXT_END], rows, num_text)


@pytest.mark.parametrize("parent", [-2, 1, 2])
def test_a_parent_comes_before_its_child(parent: int) -> None:
    tree = RowTree()
    tree.append([TEXT_END])
    with pytest.raises(ValueError, match="not earlier"):
        tree.append([parent])
    assert tree.num_rows == 1


def test_a_tree_has_an_end() -> None:
    tree = RowTree()
    tree.append([TEXT_END] * MAX_ROWS)
    with pytest.raises(ValueError, match=f"{MAX_ROWS + 1} rows"):
        tree.append([TEXT_END])
