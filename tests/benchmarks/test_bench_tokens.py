"""The pure parts of the benchmark of tokens a pass: fixed shapes, and how sure a ratio is."""

import itertools
import random

from bench_shapes import Shape, best_tree, chain, num_passes, rank_shares
from bench_tokens import ratio_interval
from hypothesis import given
from hypothesis import strategies as st

RANKS = st.lists(st.integers(0, 3), min_size=1, max_size=30)


def worth(shape: Shape, shares: list[float]) -> float:
    """Expected accepted tokens, where ranks are independent."""
    total = 0.0
    for path in shape:
        product = 1.0
        for rank in path:
            product *= shares[rank]
        total += product
    return total


def all_trees(num_nodes: int, num_ranks: int) -> set[Shape]:
    """Every shape of so many nodes."""
    trees: set[Shape] = {frozenset()}
    for _ in range(num_nodes):
        trees = {
            tree | {(*above, rank)}
            for tree in trees
            for above in [(), *tree]
            for rank in range(num_ranks)
            if (*above, rank) not in tree
        }
    return trees


def test_a_chain_follows_first_guesses() -> None:
    assert chain(3) == {(0,), (0, 0), (0, 0, 0)}


@given(st.lists(st.floats(0.01, 0.5), min_size=2, max_size=2), st.integers(1, 4))
def test_no_tree_of_the_same_size_is_better_than_the_best(
    shares: list[float], num_nodes: int
) -> None:
    best = best_tree(shares, num_nodes)
    assert len(best) == num_nodes
    assert all(path[:-1] in best for path in best if len(path) > 1)
    most = max(worth(tree, shares) for tree in all_trees(num_nodes, 2))
    assert abs(worth(best, shares) - most) < 1e-12


def test_a_pass_commits_what_the_shape_holds_and_one_token_more() -> None:
    shape = chain(2) | {(1,)}
    assert num_passes(shape, [0, 0, 0, 0, 0, 0]) == 2
    assert num_passes(shape, [1, 0, 0, 0]) == 2  # (1,) and one; the rest
    assert num_passes(shape, [3, 3, 3]) == 3
    assert num_passes(shape, [0]) == 1


@given(RANKS, st.integers(1, 6))
def test_a_longer_chain_never_takes_more_passes(ranks: list[int], length: int) -> None:
    assert num_passes(chain(length + 1), ranks) <= num_passes(chain(length), ranks)


def test_shares_are_those_of_all_tokens() -> None:
    assert rank_shares([[0, 0, 1], [0, 8]], 3) == [0.6, 0.2, 0.0]


def test_a_ratio_of_sums_that_is_the_same_everywhere_is_certain() -> None:
    assert ratio_interval([2, 4, 6], [1, 2, 3]) == (2.0, 2.0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    coins = random.Random(1)
    covered = 0
    for _ in range(100):
        pairs = [(coins.randint(10, 30), coins.randint(10, 30)) for _ in range(40)]
        low, high = ratio_interval(*map(list, zip(*pairs, strict=True)))
        covered += low <= 1 <= high
    # 95 % nominal; below 85 of 100 has probability 1e-4 for a coverage of 95 %.
    assert covered >= 85


def test_trees_of_a_size_are_all_there() -> None:
    counts = [len(all_trees(n, 2)) for n in range(1, 4)]
    assert counts == [2, 5, 14]  # Catalan numbers
    assert all(len(tree) == 3 for tree in itertools.islice(all_trees(3, 2), 14))
