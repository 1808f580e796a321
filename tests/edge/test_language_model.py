"""The language-model proposer over a fake draft model."""

import numpy as np
import pytest
from fake_draft_model import FakeDraftModel, FakeSequence

from outrider_common.acceptance import exact_token
from outrider_common.sampling import SamplingParams
from outrider_edge.language_model import (
    FEED_CHUNK_TOKENS,
    LanguageModelFactory,
    LanguageModelProposer,
    softmax_probability,
)
from outrider_edge.proposer import Draft, DraftingTask

VOCAB_SIZE = 64
SAMPLED = SamplingParams(temperature=0.8, presence_penalty=1.0, seed=5)


def start(
    model: FakeDraftModel, sampling: SamplingParams = SAMPLED, num_prompt_tokens: int = 3
) -> tuple[LanguageModelProposer, FakeSequence]:
    task = DraftingTask(sampling, num_prompt_tokens, VOCAB_SIZE)
    return LanguageModelFactory(model).start(task), model.sequences[-1]


@pytest.mark.parametrize("sampling", [SamplingParams(), SAMPLED])
def test_it_guesses_what_the_target_would_choose_from_the_same_logits(
    sampling: SamplingParams,
) -> None:
    model = FakeDraftModel(vocab_size=8)
    proposer, _ = start(model, sampling)
    context = [1, 2, 3]
    for _ in range(30):
        logits = model.new_sequence().forward(context)[-1]
        expected = exact_token(logits, sampling, len(context), context[:3], context[3:])
        assert proposer.propose(context, 4).tokens == (expected,)
        context.append(expected)


def test_a_guess_carries_its_probability_under_the_drafters_own_softmax() -> None:
    logits = np.log(np.array([0.1, 0.7, 0.2], dtype=np.float32)) + 40
    assert softmax_probability(logits, 1) == pytest.approx(0.7, rel=1e-5)
    assert softmax_probability(np.array([0.0, 500.0], dtype=np.float32), 0) == 0.0


def test_a_growing_context_is_fed_token_by_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    proposer.propose([1, 2, 3], 1)
    proposer.propose([1, 2, 3, 4], 1)
    assert (sequence.tokens, sequence.num_fed) == ([1, 2, 3, 4], 4)


def test_only_what_follows_the_branching_point_is_fed_again() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    proposer.propose([1, 2, 3, 4, 5], 1)
    proposer.propose([1, 2, 3, 9], 1)
    assert (sequence.tokens, sequence.num_fed) == ([1, 2, 3, 9], 6)


def test_an_abandoned_branch_is_not_taken_for_cached() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    for context in ([1, 2, 3, 4, 5], [1, 2, 3, 9], [1, 2, 3, 4, 5, 6]):
        proposer.propose(context, 1)
        assert sequence.tokens == context


def test_asking_again_costs_one_token() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE))
    first = proposer.propose([1, 2, 3, 4, 5], 1)
    assert proposer.propose([1, 2, 3, 4, 5], 1) == first
    assert sequence.num_fed == 6


def test_a_long_prompt_is_fed_in_chunks() -> None:
    model = FakeDraftModel(VOCAB_SIZE, max_positions=2000)
    proposer, sequence = start(model)
    context = [i % VOCAB_SIZE for i in range(2 * FEED_CHUNK_TOKENS + 1)]
    proposer.propose(context, 1)
    assert sequence.tokens == context
    assert sequence.longest_input == FEED_CHUNK_TOKENS


def test_a_context_as_long_as_the_drafter_can_read_is_read_and_a_longer_one_is_not() -> None:
    proposer, sequence = start(FakeDraftModel(VOCAB_SIZE, max_positions=4))
    assert proposer.propose([1, 2, 3, 4], 1) != Draft()
    assert proposer.propose([1, 2, 3, 4, 5], 1) == Draft()
    assert sequence.length == 4


def test_a_context_with_a_token_that_the_drafter_lacks_drafts_nothing() -> None:
    proposer, sequence = start(FakeDraftModel(vocab_size=32))
    assert proposer.propose([1, 2, 40], 1) == Draft()
    assert proposer.propose([1, 2, 40, 3], 1) == Draft()
    assert sequence.num_fed == 0


def test_logits_beyond_the_targets_vocabulary_are_not_guessed() -> None:
    proposer, _ = start(FakeDraftModel(vocab_size=VOCAB_SIZE * 50))
    guesses = [proposer.propose([i], 1).tokens for i in range(VOCAB_SIZE)]
    assert all(0 <= token < VOCAB_SIZE for (token,) in guesses)
