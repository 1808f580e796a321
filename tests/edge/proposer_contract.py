"""What every proposer promises, whatever it drafts with.

A test module subclasses `ProposerContract` and gives it factories in a fixture `factory`. Each
test calls the proposer through the protocol alone.
"""

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_common.sampling import SamplingParams
from outrider_edge.proposer import Draft, DraftingTask, Proposer, ProposerFactory

VOCAB_SIZE = 24
"""Small, so that contexts repeat themselves."""

TOKENS = st.integers(0, VOCAB_SIZE - 1)
CONTEXTS = st.lists(TOKENS, min_size=1, max_size=40)
CALLS = st.lists(st.tuples(CONTEXTS, st.integers(1, 9)), min_size=1, max_size=6)
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


def drafts_of(proposer: Proposer, calls: Sequence[tuple[list[int], int]]) -> list[Draft]:
    """The drafts of a series of calls."""
    return [proposer.propose(context, max_tokens) for context, max_tokens in calls]


class ProposerContract:
    """Holds for every proposer."""

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_it_never_drafts_more_than_was_asked_for(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[tuple[list[int], int]]
    ) -> None:
        drafts = drafts_of(factory.start(task), calls)
        assert all(len(d.tokens) <= n for d, (_, n) in zip(drafts, calls, strict=True))

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_every_guess_is_a_token_of_the_target_with_a_probability(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[tuple[list[int], int]]
    ) -> None:
        for draft in drafts_of(factory.start(task), calls):
            assert all(0 <= token < task.vocab_size for token in draft.tokens)
            assert all(0.0 <= p <= 1.0 for p in draft.probabilities)

    @given(task=TASKS, context=st.lists(st.integers(0, 10**9), min_size=1, max_size=600))
    @for_any_calls
    def test_it_survives_contexts_that_are_long_or_hold_unknown_tokens(
        self, factory: ProposerFactory, task: DraftingTask, context: list[int]
    ) -> None:
        draft = factory.start(task).propose(context, 5)
        assert all(0 <= token < task.vocab_size for token in draft.tokens)

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_the_same_calls_give_the_same_drafts(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[tuple[list[int], int]]
    ) -> None:
        assert drafts_of(factory.start(task), calls) == drafts_of(factory.start(task), calls)

    @given(task=TASKS, context=CONTEXTS)
    @for_any_calls
    def test_it_takes_any_sequence_and_leaves_it_as_it_is(
        self, factory: ProposerFactory, task: DraftingTask, context: list[int]
    ) -> None:
        before = tuple(context)
        assert factory.start(task).propose(context, 4) == factory.start(task).propose(before, 4)
        assert tuple(context) == before

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_generations_do_not_disturb_each_other(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[tuple[list[int], int]]
    ) -> None:
        alone = drafts_of(factory.start(task), calls)
        one, other = factory.start(task), factory.start(task)
        pairs = [(one.propose(c, n), other.propose(c[::-1], n)) for c, n in calls]
        assert [draft for draft, _ in pairs] == alone


class FaithfulProposerContract(ProposerContract):
    """Holds for every proposer whose draft depends on the context alone, not on earlier calls."""

    @given(
        task=TASKS,
        stem=CONTEXTS,
        tails=st.lists(st.lists(TOKENS, max_size=6), min_size=1, max_size=6),
    )
    @for_any_calls
    def test_a_context_that_rolls_back_or_branches_is_followed(
        self,
        factory: ProposerFactory,
        task: DraftingTask,
        stem: list[int],
        tails: list[list[int]],
    ) -> None:
        contexts = [stem + tail for tail in tails]
        kept = factory.start(task)
        for context in [*contexts, stem[: len(stem) // 2 + 1], *contexts]:
            assert kept.propose(context, 4) == factory.start(task).propose(context, 4)

    @given(task=TASKS, calls=CALLS)
    @for_any_calls
    def test_contexts_with_nothing_in_common_are_followed(
        self, factory: ProposerFactory, task: DraftingTask, calls: list[tuple[list[int], int]]
    ) -> None:
        fresh = [factory.start(task).propose(context, n) for context, n in calls]
        assert drafts_of(factory.start(task), calls) == fresh
