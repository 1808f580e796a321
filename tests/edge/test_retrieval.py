"""Retrieval over prompt and output, against a brute-force version of the same rule."""

from collections.abc import Sequence
from math import prod

from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from matches import matches_by_brute_force

from outrider_common.match_votes import MAX_MATCHES, MIN_MATCH_TOKENS, NO_VOTE, match_votes
from outrider_common.sampling import SamplingParams
from outrider_common.suffix_index import MAX_COMPARED_TOKENS
from outrider_edge.growing_text import GrowingText
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask
from outrider_edge.retrieval import (
    MAX_BRANCHES,
    SIDE_BRANCH_TOKENS,
    RetrievalFactory,
    RetrievalProposer,
)

MOST_TOKENS = 14
"""Of a text so short that, with a path behind it, a search looks at everything."""
TEXTS = st.lists(st.integers(0, 2), max_size=MOST_TOKENS)
DEPTH = SIDE_BRANCH_TOKENS + 2
PATHS = st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=4)
TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=1000)


def fresh_proposer() -> RetrievalProposer:
    return RetrievalFactory().start(TASK)


def draft_of(text: Sequence[int], max_depth: int) -> Draft:
    return fresh_proposer().expand(text, [()], max_depth)[0]


def paths_of(draft: Draft) -> list[tuple[int, ...]]:
    """Of each guess the tokens from the leaf to it."""
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(draft.tokens, draft.parents, strict=True):
        paths.append((token,) if parent == CONTEXT_END else (*paths[parent], token))
    return paths


def continuations_by_brute_force(
    text: list[int], max_depth: int
) -> list[tuple[int, tuple[int, ...]]]:
    """The lengths of the best matches and what followed each."""
    found: list[tuple[int, tuple[int, ...]]] = []
    for length, end in matches_by_brute_force(text, text, MIN_MATCH_TOKENS)[:MAX_MATCHES]:
        longer = list(text)
        for i in range(max_depth):
            longer.append(longer[end + i])
        found.append((length, tuple(longer[len(text) :])))
    return found


def draft_by_brute_force(text: list[int], max_depth: int) -> dict[tuple[int, ...], float]:
    """Each path of the tree with its probability, counted path by path."""
    followed = continuations_by_brute_force(text, max_depth)
    paths: list[tuple[int, ...]] = []
    num_branches = 0
    for _, tokens in followed:
        new = [tokens[:n] for n in range(1, max_depth + 1) if tokens[:n] not in paths]
        if new and num_branches < MAX_BRANCHES:
            paths += new[:SIDE_BRANCH_TOKENS] if num_branches else new
            num_branches += 1

    def votes_for(path: tuple[int, ...], depth: int) -> float:
        grown = (length + depth for length, tokens in followed if tokens[: len(path)] == path)
        return sum(map(match_votes, grown))

    return {
        path: votes_for(path, len(path) - 1) / (NO_VOTE + votes_for(path[:-1], len(path) - 1))
        for path in paths
    }


def assert_is_the_plain_draft(draft: Draft, text: list[int], max_depth: int) -> None:
    expected = draft_by_brute_force(text, max_depth)
    assert paths_of(draft) == list(expected)
    for ours, plain in zip(draft.probabilities, expected.values(), strict=True):
        assert abs(ours - plain) < 1e-9


class ProposerFollowsAnyContext(RuleBasedStateMachine):
    """One proposer sees a text that grows, rolls back, branches and changes altogether.

    It is given as a list, as a tuple and as the beginning of a list that grows, in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.proposer = fresh_proposer()
        self.growing: list[int] = []
        self.earlier: list[GrowingText] = []
        self.text: Sequence[int] = ()
        self.paths: list[list[int]] = []

    @initialize()
    def begin(self) -> None:
        self.text, self.paths = [0], [[]]

    @rule(tokens=TEXTS, paths=PATHS)
    def grow(self, tokens: list[int], paths: list[list[int]]) -> None:
        self.text, self.paths = [*self.text, *tokens][:MOST_TOKENS], paths

    @rule(tokens=TEXTS, paths=PATHS)
    def grow_in_place(self, tokens: list[int], paths: list[list[int]]) -> None:
        self.growing += [0, *tokens][: MOST_TOKENS - len(self.growing)]
        self.text, self.paths = GrowingText(self.growing), paths
        self.earlier.append(GrowingText(self.growing))

    @precondition(lambda self: self.earlier)
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        self.text = data.draw(st.sampled_from(self.earlier))

    @rule(paths=PATHS)
    def grow_in_another_list(self, paths: list[list[int]]) -> None:
        self.growing = [0, *self.growing[::-1]][:MOST_TOKENS]
        self.text, self.paths = GrowingText(self.growing), paths

    @rule(num_tokens=st.integers(1, 5), tokens=st.lists(st.integers(0, 2), max_size=5))
    def swap_the_tail(self, num_tokens: int, tokens: list[int]) -> None:
        text = list(self.text)
        self.text = (*text[:1], *text[1:-num_tokens], *tokens)[:MOST_TOKENS]

    @rule(tokens=st.lists(st.integers(0, 2), min_size=1, max_size=MOST_TOKENS))
    def begin_anew(self, tokens: list[int]) -> None:
        self.text = tokens

    @invariant()
    def it_drafts_what_the_plain_version_drafts(self) -> None:
        if not self.text:
            return
        drafts = self.proposer.expand(self.text, self.paths, DEPTH)
        for path, draft in zip(self.paths, drafts, strict=True):
            assert_is_the_plain_draft(draft, [*self.text, *path], DEPTH)


TestProposerFollowsAnyContext = ProposerFollowsAnyContext.TestCase


def test_several_continuations_share_their_common_beginning() -> None:
    text = [1, 2, 5, 6, 1, 2, 5, 7, 1, 2, 8, 9, 1, 2]
    draft = draft_of(text, 2)
    assert paths_of(draft) == [(8,), (8, 9), (5,), (5, 7), (5, 6)]
    votes = match_votes(2)
    assert draft.probabilities[0] == votes / (3 * votes + NO_VOTE)
    assert draft.probabilities[2] == 2 * votes / (3 * votes + NO_VOTE)


def test_a_guess_that_a_later_match_brings_has_the_votes_of_the_earlier_ones_too() -> None:
    text = [1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1, 2, 9, 1, 2]
    draft = draft_of(text, 5)
    place = paths_of(draft).index((3, 4, 5, 6, 7))  # the second match had no room for the 7
    votes = 2 * match_votes(2 + 4)
    assert draft.probabilities[place] == votes / (votes + NO_VOTE)


@example(text=[0, 0, 0, 1, 2, 2, 0, 0, 1, 2, 2, 0, 0, 0, 0], max_depth=DEPTH)
@given(text=st.lists(st.integers(0, 1), max_size=MOST_TOKENS + 3), max_depth=st.integers(1, 12))
def test_any_text_drafts_what_the_plain_version_drafts(text: list[int], max_depth: int) -> None:
    assert_is_the_plain_draft(draft_of(text, max_depth), text, max_depth)


def test_there_are_no_more_branches_than_allowed_but_all_matches_are_counted() -> None:
    text = [token for next_token in range(20, 26) for token in (1, 2, next_token)]
    draft = draft_of([*text, 1, 2], 1)
    assert draft.tokens == (25, 24, 23)
    assert draft.probabilities == (match_votes(2) / (6 * match_votes(2) + NO_VOTE),) * 3


def test_a_longer_match_comes_first_and_counts_for_more() -> None:
    draft = draft_of([3, 1, 2, 4, 9, 1, 2, 5, 3, 1, 2], 1)
    assert draft.tokens == (4, 5)
    assert draft.probabilities[0] > draft.probabilities[1]


def test_a_repetition_is_continued_beyond_the_end_of_the_text() -> None:
    assert draft_of([5, 1, 2, 1, 2, 1], 5).tokens == (2, 1, 2, 1, 2)


def test_a_text_without_repetition_drafts_nothing() -> None:
    assert draft_of(list(range(50)), 4) == Draft()


def test_the_chain_ends_before_a_token_that_the_target_lacks() -> None:
    assert draft_of([1, 2, 3, 4, 5000, 6, 1, 2, 3], 4).tokens == (4,)


def test_leaves_are_looked_up_as_the_end_of_the_text_is() -> None:
    text = [1, 2, 3, 4, 5, 6, 7, 1]
    drafts = fresh_proposer().expand(text, [(), (2,), (2, 3, 4), (2, 3), (9,)], 2)
    assert [draft.tokens for draft in drafts] == [(), (3, 4), (5, 6), (4, 5), ()]


def test_a_text_that_can_take_long_costs_no_more_comparisons() -> None:
    repeated = [token for i in range(300) for token in (*range(28), 1000 + i)]
    proposer = fresh_proposer()
    proposer.expand(repeated[:-1], [()], 1)
    lengths = [match.length for match in proposer._index.matches(proposer.text)]
    assert sum(lengths) - 2 * len(lengths) < MAX_COMPARED_TOKENS + 28


@given(length=st.integers(2, 32), reach=st.integers(0, 20))
def test_longer_matches_and_shorter_reach_are_trusted_more(length: int, reach: int) -> None:
    def probability(matching: int) -> float:
        return match_votes(matching) / (match_votes(matching) + NO_VOTE)

    def path_prior(length: int, reach: int) -> float:
        return prod(probability(length + step) for step in range(reach + 1))

    assert 0.0 < path_prior(length, reach) < path_prior(length + 1, reach) < 1.0
    assert path_prior(length, reach + 1) < path_prior(length, reach)
