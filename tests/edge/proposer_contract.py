"""What every proposer promises, whatever it drafts with.

A test module subclasses `ProposerContract` and gives it factories in a fixture `factory`. Each
test calls the proposer through the protocol alone.
"""

import itertools
from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_common.sampling import SamplingParams
from outrider_edge.growing_text import GrowingText
from outrider_edge.proposer import Draft, DraftingTask, Proposer, ProposerFactory

VOCAB_SIZE = 24
"""Small, so that contexts repeat themselves."""

TOKENS = st.integers(0, VOCAB_SIZE - 1)
CONTEXTS = st.lists(TOKENS, min_size=1, max_size=40)
PATHS = st.lists(st.lists(TOKENS, max_size=4).map(tuple), min_size=1, max_size=3)
CALLS = st.lists(st.tuples(CONTEXTS, PATHS, st.integers(1, 9)), min_size=1, max_size=6)
TASKS = st.builds(
    DraftingTask,
    sampling=st.sampled_from(
        [
            SamplingParams(),
            SamplingParams(temperature=1.0, top_p=0.9, seed=7),
            SamplingParams(temperature=0.7, repetition_penalty=1.2, frequency_penalty=0.5),
        ]
    ),
    num_prompt_tokens=st.integers(1, 50),
    vocab_size=st.just(VOCAB_SIZE),
)

for_any_calls = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


Call = tuple[list[int], list[tuple[int, ...]], int]


def drafts_of(proposer: Proposer, calls: Sequence[Call]) -> list[list[Draft]]:
    """The drafts of a series of calls."""
    return [proposer.expand(text, paths, max_depth) for text, paths, max_depth in calls]


def draft_alone(proposer: Proposer, context: Sequence[int], max_depth: int) -> Draft:
    """What a proposer says of the end of a text."""
    (draft,) = proposer.expand(context, [()], max_depth)
    return draft


class ProposerContract:
    """Holds for every proposer."""

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_each_leaf_gets_a_draft_and_none_is_deeper_than_was_asked_for(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[Call]
    ) -> None:
        for drafts, (_, paths, max_depth) in zip(
            drafts_of(factory.start(task), calls), calls, strict=True
        ):
            assert len(drafts) == len(paths)
            assert all(draft.depth <= max_depth for draft in drafts)

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_every_guess_is_a_token_of_the_target_with_a_probability(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[Call]
    ) -> None:
        for draft in itertools.chain(*drafts_of(factory.start(task), calls)):
            assert all(0 <= token < task.vocab_size for token in draft.tokens)
            assert all(0.0 <= p <= 1.0 for p in draft.probabilities)

    @given(task=TASKS, context=st.lists(st.integers(0, 10**9), min_size=1, max_size=600))
    @for_any_calls
    def test_it_survives_texts_that_are_long_or_hold_unknown_tokens(
        self, factory: ProposerFactory, task: DraftingTask, context: list[int]
    ) -> None:
        middle = len(context) // 2 + 1
        drafts = factory.start(task).expand(context[:middle], [context[middle:], ()], 5)
        for draft in drafts:
            assert all(0 <= token < task.vocab_size for token in draft.tokens)

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_the_same_calls_give_the_same_drafts(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[Call]
    ) -> None:
        assert drafts_of(factory.start(task), calls) == drafts_of(factory.start(task), calls)

    @given(task=TASKS, text=CONTEXTS, path=st.lists(TOKENS, max_size=4))
    @for_any_calls
    def test_it_takes_any_sequences_and_leaves_them_as_they_are(
        self, factory: ProposerFactory, task: DraftingTask, text: list[int], path: list[int]
    ) -> None:
        frozen = tuple(text), [tuple(path)]
        drafts = factory.start(task).expand(text, [path], 4)
        assert drafts == factory.start(task).expand(*frozen, 4)
        assert (tuple(text), [tuple(path)]) == frozen

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_generations_do_not_disturb_each_other(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[Call]
    ) -> None:
        alone = drafts_of(factory.start(task), calls)
        one, other = factory.start(task), factory.start(task)
        pairs = [(one.expand(t, p, n), other.expand(t[::-1], p, n)) for t, p, n in calls]
        assert [drafts for drafts, _ in pairs] == alone


class FaithfulProposerContract(ProposerContract):
    """Holds for every proposer whose drafts depend on what precedes them alone."""

    @given(
        task=TASKS,
        stem=CONTEXTS,
        tails=st.lists(st.lists(TOKENS, max_size=6), min_size=1, max_size=6),
    )
    @for_any_calls
    def test_a_text_that_rolls_back_or_branches_is_followed(
        self,
        factory: ProposerFactory,
        task: DraftingTask,
        stem: list[int],
        tails: list[list[int]],
    ) -> None:
        contexts = [stem + tail for tail in tails]
        kept = factory.start(task)
        for context in [*contexts, stem[: len(stem) // 2 + 1], *contexts]:
            assert draft_alone(kept, context, 4) == draft_alone(factory.start(task), context, 4)

    @given(task=TASKS, stem=CONTEXTS, tails=st.lists(st.lists(TOKENS, max_size=4), max_size=4))
    @for_any_calls
    def test_a_text_that_is_a_view_of_a_growing_one_is_followed(
        self, factory: ProposerFactory, task: DraftingTask, stem: list[int], tails: list[list[int]]
    ) -> None:
        kept, text = factory.start(task), list(stem)
        views = [GrowingText(text)]
        for tail in tails:
            text += tail
            views.append(GrowingText(text))
        for view in [*views, views[0], *views]:
            assert draft_alone(kept, view, 4) == draft_alone(factory.start(task), list(view), 4)

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_a_leaf_is_drafted_from_as_if_its_path_were_text(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[Call]
    ) -> None:
        fresh = [
            [draft_alone(factory.start(task), [*text, *path], n) for path in paths]
            for text, paths, n in calls
        ]
        assert drafts_of(factory.start(task), calls) == fresh
