"""Retrieval over prompt and output, against a brute-force version of the same rule."""

import itertools

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outrider_common.sampling import SamplingParams
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.retrieval import (
    Match,
    RetrievalFactory,
    RetrievalProposer,
    SuffixIndex,
    acceptance_prior,
)

TEXTS = st.lists(st.integers(0, 2), max_size=60)
TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=1000)


def fresh_proposer(min_match: int = 3) -> RetrievalProposer:
    return RetrievalFactory(min_match).start(TASK)


def build_index(tokens: list[int], min_match: int, max_match: int) -> SuffixIndex:
    index = SuffixIndex(min_match, max_match)
    for token in tokens:
        index.append(token)
    return index


def longest_match_by_brute_force(
    tokens: list[int], min_match: int, max_match: int = 32
) -> Match | None:
    best: Match | None = None
    for end in range(len(tokens) - 1, 0, -1):
        pairs = zip(reversed(tokens[:end]), reversed(tokens), strict=False)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
        length = min(same, max_match)
        if length >= min_match and (best is None or length > best.length):
            best = Match(end, length)
    return best


def chain_by_brute_force(tokens: list[int], max_tokens: int) -> tuple[int, ...]:
    match = longest_match_by_brute_force(tokens, min_match=3)
    text = list(tokens)
    if match is not None:
        for i in range(max_tokens):
            text.append(text[match.end + i])
    return tuple(text[len(tokens) :])


@given(tokens=TEXTS, min_match=st.integers(1, 4), extra=st.integers(0, 8))
def test_it_finds_the_longest_match_and_the_latest_on_ties(
    tokens: list[int], min_match: int, extra: int
) -> None:
    max_match = min_match + extra
    found = build_index(tokens, min_match, max_match).longest_match()
    assert found == longest_match_by_brute_force(tokens, min_match, max_match)


@given(tokens=TEXTS, lengths=st.lists(st.integers(0, 60), max_size=5))
def test_truncating_and_appending_again_leaves_no_trace(
    tokens: list[int], lengths: list[int]
) -> None:
    index = build_index(tokens, min_match=2, max_match=32)
    for length in lengths:
        index.truncate(length)
        for token in tokens[len(index.tokens) :]:
            index.append(token)
        assert index.longest_match() == longest_match_by_brute_force(tokens, min_match=2)


def test_it_looks_at_no_more_candidates_than_it_was_told() -> None:
    # The last three tokens occur twice before: nearby, and far away with a longer match.
    tokens = [7, 1, 2, 3, 40, 8, 1, 2, 3, 50, 7, 1, 2, 3]
    latest_only = SuffixIndex(min_match=3, max_candidates=1)
    for token in tokens:
        latest_only.append(token)
    assert latest_only.longest_match() == Match(end=9, length=3)
    assert build_index(tokens, 3, 32).longest_match() == Match(end=4, length=4)


class ProposerFollowsAnyContext(RuleBasedStateMachine):
    """One proposer sees a context that grows, rolls back, branches and changes altogether."""

    def __init__(self) -> None:
        super().__init__()
        self.proposer = fresh_proposer()
        self.context = [0]

    @rule(tokens=TEXTS)
    def grow(self, tokens: list[int]) -> None:
        self.context = self.context + tokens

    @rule(num_tokens=st.integers(1, 5), tokens=st.lists(st.integers(0, 2), max_size=5))
    def swap_the_tail(self, num_tokens: int, tokens: list[int]) -> None:
        self.context = [*self.context[:1], *self.context[1:-num_tokens], *tokens]

    @rule(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=60))
    def begin_anew(self, tokens: list[int]) -> None:
        self.context = tokens

    @invariant()
    def it_drafts_what_the_plain_version_drafts(self) -> None:
        (draft,) = self.proposer.expand(self.context, [()], 7)
        assert draft.tokens == chain_by_brute_force(self.context, 7)


TestProposerFollowsAnyContext = ProposerFollowsAnyContext.TestCase


def test_a_repetition_is_continued_beyond_the_end_of_the_text() -> None:
    assert fresh_proposer().expand([5, 1, 2, 1, 2, 1], [()], 5)[0].tokens == (2, 1, 2, 1, 2)


def test_a_text_without_repetition_drafts_nothing() -> None:
    assert fresh_proposer().expand(list(range(50)), [()], 4) == [Draft()]


def test_the_chain_ends_before_a_token_that_the_target_lacks() -> None:
    context = [1, 2, 3, 4, 5000, 6, 1, 2, 3]
    assert fresh_proposer().expand(context, [()], 4)[0].tokens == (4,)


@given(length=st.integers(1, 32), reach=st.integers(0, 20))
def test_longer_matches_and_shorter_reach_are_trusted_more(length: int, reach: int) -> None:
    def path_prior(length: int, reach: int) -> float:
        path = 1.0
        for step in range(reach + 1):
            path *= acceptance_prior(length, step)
        return path

    assert 0.0 < path_prior(length, reach) < path_prior(length + 1, reach) < 1.0
    assert path_prior(length, reach + 1) < path_prior(length, reach)
