"""Which tokens a cache holds behind its text."""

from outrider_edge.cached_tree import CachedTree
from outrider_edge.row_tree import TEXT_END


def tree_of(*rows: tuple[int, int]) -> CachedTree:
    """A tree of (token, parent)."""
    tree = CachedTree()
    for number, (token, parent) in enumerate(rows):
        assert tree.append(token, parent) == number
    return tree


def test_a_path_is_found_as_far_as_it_is_cached() -> None:
    tree = tree_of((5, TEXT_END), (6, TEXT_END), (7, 0), (8, 2))
    assert tree.walk([5, 7, 8, 9]) == [0, 2, 3]
    assert tree.walk([6, 7]) == [1]
    assert tree.walk([7]) == []
    assert tree.walk([]) == []


def test_a_second_row_of_one_path_is_not_found_and_dies_with_the_next_commit() -> None:
    tree = tree_of((5, TEXT_END), (7, 0), (7, 0), (8, 1))
    assert tree.walk([5, 7, 8]) == [0, 1, 3]
    assert tree.below(0) == [1, 3]


def test_what_hangs_from_the_committed_path_lives_on() -> None:
    tree = tree_of((5, TEXT_END), (6, TEXT_END), (7, 0), (8, 1), (9, 2))
    tree.keep([0, *tree.below(0)], 1)
    assert tree.since(0) == ([7, 9], [TEXT_END, 0])
    assert tree.walk([7, 9]) == [0, 1]
    assert tree.append(4, 1) == 2
    assert tree.since(2) == ([4], [1])
