"""The common prefix of two contexts."""

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.prefix import common_prefix_length

TOKENS = st.lists(st.integers(0, 1) | st.integers(10**6, 10**6 + 1), max_size=40)


@given(shared=TOKENS, left=TOKENS, right=TOKENS)
def test_it_is_what_a_comparison_token_by_token_finds(
    shared: list[int], left: list[int], right: list[int]
) -> None:
    left, right = shared + left, shared + right
    same = takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False))
    assert common_prefix_length(left, right) == len(list(same))
