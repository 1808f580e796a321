"""What chains and trees gain, against a speculation played token by token."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_distill.speculation import (
    BEYOND_THE_END,
    BlockRanks,
    TreeShape,
    acceptance_per_position,
    best_tree,
    block_rescued,
    block_runs,
    block_shares,
    block_tokens_per_pass,
    chain_tokens_per_pass,
    share_in_first,
    tree_tokens_per_pass,
)

TEXTS = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=30), min_size=1, max_size=4)


def arrays(texts: Sequence[Sequence[int]]) -> list[np.ndarray]:
    return [np.array(text, np.int64) for text in texts]


def chain(length: int) -> TreeShape:
    return TreeShape((*((node + 1,) for node in range(length)), ()))


@given(TEXTS, st.integers(1, 6))
def test_a_chain_is_a_tree_without_branches(texts: list[list[int]], length: int) -> None:
    ranks = arrays(texts)
    assert chain_tokens_per_pass(ranks, length) == tree_tokens_per_pass(ranks, chain(length))


@given(TEXTS, st.integers(1, 6))
def test_a_chain_commits_what_one_plays_by_hand(texts: list[list[int]], length: int) -> None:
    num_passes = 0
    for text in texts:
        left = list(text)
        while left:
            num_passes += 1
            draft = left[:length]
            while draft and draft[0] == 0:
                draft.pop(0)
                left.pop(0)
            left = left[1:]  # the correction, or the token behind a draft that was right
    assert chain_tokens_per_pass(arrays(texts), length) == sum(map(len, texts)) / num_passes


def test_acceptance_is_told_apart_by_position() -> None:
    # Drafts of three: right right wrong | right wrong | wrong | right, and then the text ends.
    ranks = arrays([[0, 0, 1, 0, 1, 1, 0]])
    assert acceptance_per_position(ranks, 3) == pytest.approx([3 / 4, 1 / 3, 0 / 3])


@given(TEXTS)
def test_more_guesses_never_find_the_target_s_token_less_often(texts: list[list[int]]) -> None:
    ranks = arrays(texts)
    shares = [share_in_first(ranks, count) for count in range(6)]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[5] == 1
    assert shares[1] == sum(text.count(0) for text in texts) / sum(map(len, texts))


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=6).map(
        lambda shares: sorted(shares, reverse=True)
    ),
    st.integers(1, 30),
)
def test_the_best_tree_has_the_nodes_of_the_greatest_products(
    shares: list[float], num_nodes: int
) -> None:
    tree = best_tree(shares, num_nodes)
    assert len(tree.children) == num_nodes + 1
    values = {0: 1.0}
    for node, children in enumerate(tree.children):
        assert len(children) <= len(shares)
        for rank, child in enumerate(children):
            values[child] = values[node] * shares[rank]
    worst = min(values.values())
    for node, children in enumerate(tree.children):
        if len(children) < len(shares):
            left_out = values[node] * shares[len(children)]
            assert left_out <= worst * (1 + 1e-9)


def test_a_tree_follows_the_branch_of_the_target_s_token() -> None:
    tree = TreeShape(((1, 2), (3,), (), ()))
    # Rank 1 leads to node 2, a leaf; ranks 0, 0 lead to node 3, a leaf; rank 2 is no child.
    assert tree_tokens_per_pass(arrays([[1, 0]]), tree) == 2
    assert tree_tokens_per_pass(arrays([[0, 0, 3]]), tree) == 3
    assert tree_tokens_per_pass(arrays([[2, 2]]), tree) == 1


def blocks_of(texts: Sequence[Sequence[int]], size: int) -> list[BlockRanks]:
    """Passes that guess as well beyond the next token as at it."""
    return [
        np.array(
            [
                [text[i + d] if i + d < len(text) else BEYOND_THE_END for d in range(size)]
                for i in range(len(text))
            ],
            np.int64,
        )
        for text in texts
    ]


@given(TEXTS, st.integers(1, 5))
def test_a_block_whose_masks_are_as_good_as_steps_commits_what_a_chain_does(
    texts: list[list[int]], size: int
) -> None:
    found = block_tokens_per_pass(blocks_of(texts, size))
    assert found == pytest.approx(chain_tokens_per_pass(arrays(texts), size))


@given(TEXTS)
def test_a_block_of_one_token_is_a_chain_of_one(texts: list[list[int]]) -> None:
    blocks, ranks = blocks_of(texts, 1), arrays(texts)
    acceptance = share_in_first(ranks, 1)
    assert block_shares(blocks) == block_runs(blocks) == pytest.approx([acceptance])
    if acceptance < 1:
        rescued = (share_in_first(ranks, 3) - acceptance) / (1 - acceptance)
        assert block_rescued(blocks, 3) == pytest.approx(rescued)


def test_what_blocks_get_right_is_counted_by_hand() -> None:
    end = BEYOND_THE_END
    blocks = [np.array([[0, 0, 2], [0, 5, 0], [1, 0, end], [0, end, end]], np.int64)]
    assert block_shares(blocks) == pytest.approx([3 / 4, 2 / 3, 1 / 2])
    assert block_runs(blocks) == pytest.approx([3 / 4, 1 / 3, 0])
    assert block_rescued(blocks, 4) == pytest.approx(2 / 3)  # the misses have ranks 2, 5 and 1
    assert block_tokens_per_pass(blocks) == pytest.approx(4 / 2)  # two and a correction; one


def test_blocks_without_a_miss_rescue_nothing() -> None:
    assert block_rescued([np.zeros((3, 2), np.int64)], 4) == 0
