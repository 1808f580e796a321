"""Columns and tokens: there and back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.draft_columns import below, columns_of, tokens_of

IDS = st.sets(st.integers(0, 60), min_size=1).map(lambda ids: np.array(sorted(ids), np.int64))
TOKENS = st.lists(st.integers(0, 70))


@given(IDS, TOKENS)
def test_a_token_comes_back_from_its_column_and_one_without_lies_behind_the_last(
    token_ids: np.ndarray, tokens: list[int]
) -> None:
    columns = columns_of(tokens, token_ids)
    for token, column in zip(tokens, columns, strict=True):
        if token in token_ids:
            assert tokens_of(np.array([column]), token_ids).tolist() == [token]
        else:
            assert column == len(token_ids)


@given(TOKENS)
def test_without_a_draft_vocabulary_column_and_token_are_the_same(tokens: list[int]) -> None:
    assert list(columns_of(tokens, None)) == tokens
    assert tokens_of(np.array(tokens, np.int64), None).tolist() == tokens
    assert below(None, 5) is None


@given(IDS, st.integers(0, 70))
def test_tokens_that_the_target_lacks_are_cut_off(token_ids: np.ndarray, vocab_size: int) -> None:
    kept = below(token_ids, vocab_size)
    assert kept is not None
    assert kept.tolist() == [token for token in token_ids.tolist() if token < vocab_size]
