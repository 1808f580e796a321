"""Where the end of a text stands in another, against a brute-force version of the same rule."""

from hypothesis import given
from hypothesis import strategies as st
from matches import matches_by_brute_force

from outrider_common.suffix_index import Match, SuffixIndex

TEXTS = st.lists(st.integers(0, 2), max_size=60)


def build_index(tokens: list[int], min_match: int, max_match: int = 32) -> SuffixIndex:
    """An index that looks at everything."""
    index = SuffixIndex(min_match, max_match, max_candidates=10**6, max_compared=10**6)
    for token in tokens:
        index.append(token)
    return index


@given(tokens=TEXTS, min_match=st.integers(1, 4), extra=st.integers(0, 8))
def test_it_finds_the_longest_matches_first_and_the_latest_on_ties(
    tokens: list[int], min_match: int, extra: int
) -> None:
    max_match = min_match + extra
    index = build_index(tokens, min_match, max_match)
    expected = matches_by_brute_force(tokens, tokens, min_match, max_match)
    assert index.matches(index.tokens) == expected


@given(tokens=TEXTS, text=TEXTS, min_match=st.integers(1, 4), extra=st.integers(0, 8))
def test_the_end_of_another_text_is_found_wherever_it_stands(
    tokens: list[int], text: list[int], min_match: int, extra: int
) -> None:
    max_match = min_match + extra
    index = build_index(tokens, min_match, max_match)
    expected = matches_by_brute_force(tokens, text, min_match, max_match, is_own=False)
    assert index.matches(text) == expected


@given(tokens=TEXTS, lengths=st.lists(st.integers(0, 60), max_size=5))
def test_truncating_and_appending_again_leaves_no_trace(
    tokens: list[int], lengths: list[int]
) -> None:
    index = build_index(tokens, min_match=2)
    for length in lengths:
        index.truncate(length)
        assert index.matches(index.tokens) == matches_by_brute_force(
            tokens[:length], tokens[:length], 2
        )
        for token in tokens[len(index.tokens) :]:
            index.append(token)
        assert index.matches(index.tokens) == matches_by_brute_force(tokens, tokens, 2)


def test_it_looks_at_no_more_candidates_than_it_was_told() -> None:
    # The last three tokens occur twice before: nearby, and far away with a longer match.
    tokens = [7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 7, 1, 2, 3]
    latest_only = SuffixIndex(3, max_candidates=1)
    for token in tokens:
        latest_only.append(token)
    assert latest_only.matches(latest_only.tokens) == [Match(3, 9)]
    index = build_index(tokens, 3)
    assert index.matches(index.tokens) == [Match(4, 4), Match(3, 9)]


@given(num_candidates=st.integers(1, 40), max_compared=st.integers(1, 60))
def test_it_compares_no_more_tokens_than_it_was_told_but_for_the_last_match(
    num_candidates: int, max_compared: int
) -> None:
    index = SuffixIndex(2, max_candidates=num_candidates, max_compared=max_compared)
    for i in range(50):  # every repetition of 0, ..., 9 is another match of ten tokens
        for token in (*range(10), 100 + i):
            index.append(token)
    index.truncate(50 * 11 - 1)
    lengths = [match.length for match in index.matches(index.tokens)]
    assert len(lengths) == min(num_candidates, -(-max_compared // 8))
    assert set(lengths) == {10}


def test_what_followed_a_match_goes_on_as_the_text_does_beyond_its_end() -> None:
    index = build_index([5, 1, 2, 1, 2], min_match=2)
    (match,) = index.matches(index.tokens)
    assert index.following(match, 5) == [1, 2, 1, 2, 1]
