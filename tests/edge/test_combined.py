"""Several proposers in a row, and what becomes of their guesses."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.acceptance import SparseDistribution
from outrider_common.sampling import SamplingParams
from outrider_edge.combined import DOUBT, CombinedFactory, merged
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask

TASK = DraftingTask(SamplingParams(), num_prompt_tokens=1, vocab_size=100)
SURE, UNSURE = DOUBT, DOUBT - 0.1


class Scripted:
    """Its own factory and proposer: drafts by the last token, and remembers what it was asked."""

    def __init__(self, name: str, *drafts: tuple[int, Draft]) -> None:
        self.name = name
        self.drafts = dict(drafts)
        self.asked: list[Sequence[int]] = []

    def start(self, task: DraftingTask) -> "Scripted":
        return self

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        self.asked += paths
        return [self.drafts.get([*text, *path][-1], Draft()) for path in paths]


def expand(*proposers: Scripted) -> list[Draft]:
    """What a combination says of the end of a text and of one guess behind it."""
    return CombinedFactory(proposers).start(TASK).expand([9], [(), (8,)], 4)


def test_the_next_proposer_is_asked_only_where_those_before_it_are_silent_or_in_doubt() -> None:
    silent = Scripted("silent")
    cheap = Scripted("cheap", (9, Draft.chain([1], [SURE])))
    dear = Scripted("dear", (8, Draft.chain([2], [0.9])))
    drafts = expand(silent, cheap, dear)
    assert [draft.tokens for draft in drafts] == [(1,), (2,)]
    assert [draft.proposers for draft in drafts] == [("cheap",), ("dear",)]
    assert (silent.asked, cheap.asked, dear.asked) == ([(), (8,)], [(), (8,)], [(8,)])


def test_when_all_are_sure_the_last_is_not_asked_at_all() -> None:
    cheap = Scripted("cheap", (9, Draft.chain([1], [SURE])), (8, Draft.chain([1], [1.0])))
    dear = Scripted("dear")
    expand(cheap, dear)
    assert dear.asked == []


def test_when_all_are_silent_so_is_the_combination() -> None:
    assert expand(Scripted("a"), Scripted("b")) == [Draft(), Draft()]


def test_a_guess_that_two_make_is_there_once_and_counts_as_the_surers() -> None:
    cheap = Scripted("cheap", (9, Draft.chain([1, 2], [UNSURE, 0.9])))
    dear = Scripted("dear", (9, Draft((1, 5, 3), (CONTEXT_END, CONTEXT_END, 0), (0.95, 0.04, 0.5))))
    draft, _ = expand(cheap, dear)
    assert draft == Draft(
        tokens=(1, 2, 5, 3),
        parents=(CONTEXT_END, 0, CONTEXT_END, 0),
        probabilities=(0.95, 0.9, 0.04, 0.5),
        proposers=("dear", "cheap", "dear", "dear"),
    )


def test_a_drawn_draft_is_not_mixed_with_others() -> None:
    source = SparseDistribution((1, 2), (1, 1))
    drawn = Draft((1,), (CONTEXT_END,), (0.8,), ("lm",), (source,))
    other = Draft.chain([2, 3], [0.7, 0.7]).signed("retrieval")
    assert merged(other, drawn) == drawn
    assert merged(drawn, other) == drawn


def test_its_name_lists_the_proposers_in_order() -> None:
    assert CombinedFactory([Scripted("a"), Scripted("b")]).name == "a+b"


@st.composite
def trees(draw: st.DrawFn, name: str) -> Draft:
    """A draft without twins."""
    places = draw(st.lists(st.tuples(st.integers(-1, 6), st.integers(0, 3)), max_size=8))
    known: dict[tuple[int, int], float] = {}
    for above, token in places:
        known.setdefault((min(above, len(known) - 1), token), draw(st.floats(0, 1)))
    tokens = tuple(token for _, token in known)
    parents = tuple(parent for parent, _ in known)
    return Draft(tokens, parents, tuple(known.values())).signed(name)


def paths_of(draft: Draft) -> dict[tuple[int, ...], float]:
    """The probability of each guess, by its path."""
    paths: dict[int, tuple[int, ...]] = {CONTEXT_END: ()}
    for i, (token, parent) in enumerate(zip(draft.tokens, draft.parents, strict=True)):
        paths[i] = (*paths[parent], token)
    return {paths[i]: p for i, p in enumerate(draft.probabilities)}


@given(one=trees("one"), other=trees("other"))
def test_a_merged_draft_has_just_the_paths_of_both_each_once(one: Draft, other: Draft) -> None:
    both, left, right = paths_of(merged(one, other)), paths_of(one), paths_of(other)
    assert len(both) == len(merged(one, other).tokens)
    assert both.keys() == left.keys() | right.keys()
    for path, probability in both.items():
        assert probability == max(left.get(path, 0), right.get(path, 0))


@pytest.mark.parametrize("empty_first", [True, False])
def test_merging_with_nothing_changes_nothing(empty_first: bool) -> None:
    draft = Draft.chain([1], [0.5]).signed("a")
    assert merged(*((Draft(), draft) if empty_first else (draft, Draft()))) == draft
