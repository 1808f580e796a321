"""Guesses for `rejection`: from what they are drawn, and that nothing else decides on them."""

from collections import Counter

import numpy as np
import pytest
from fake_draft_model import FakeDraftModel
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from outrider_common.acceptance import AcceptanceMode, SparseDistribution
from outrider_common.sampling import SamplingParams, distribution
from outrider_edge.drawn import DRAWN_PRIOR, NUM_CANDIDATES, drawn_draft
from outrider_edge.language_model import WIDTH, LanguageModelProposer
from outrider_edge.proposer import Draft, DraftingTask

VOCAB_SIZE = 40


def logits_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, VOCAB_SIZE).astype(np.float32)


def source_of(draft: Draft) -> SparseDistribution:
    (source,) = set(draft.drawn_from)
    assert source is not None
    return source


@given(
    seed=st.integers(0, 2**64 - 1),
    model=st.integers(0, 1000),
    num_draws=st.integers(1, 20),
    temperature=st.floats(0.1, 5),
    top_k=st.integers(0, 50),
    context=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20),
)
def test_what_is_drawn_can_be_sent_and_was_possible(
    seed: int, model: int, num_draws: int, temperature: float, top_k: int, context: list[int]
) -> None:
    params = SamplingParams(temperature=temperature, top_k=top_k, seed=seed)
    draft = drawn_draft(logits_of(model), params, len(context), context[:1], context[1:], num_draws)
    source = source_of(draft)
    assert source.fits_the_wire
    assert len(source.token_ids) <= min(NUM_CANDIDATES, top_k or VOCAB_SIZE)
    assert set(draft.tokens) <= set(source.token_ids)
    assert len(draft.tokens) == min(num_draws, len(source.token_ids))
    assert all(0 <= p <= DRAWN_PRIOR for p in draft.probabilities)
    assert list(draft.probabilities) == sorted(draft.probabilities, reverse=True)


def test_draws_have_the_probabilities_that_are_sent() -> None:
    logits = logits_of(1)
    drafts = [
        drawn_draft(logits, SamplingParams(temperature=2.0, seed=seed), 2, (), (), 1)
        for seed in range(3000)
    ]
    (source,) = {source_of(draft) for draft in drafts}
    counts = Counter(draft.tokens[0] for draft in drafts)
    expected = source.probabilities() * len(drafts)
    is_common = expected >= 5
    seen = np.array([counts[token] for token in source.token_ids])
    pairs = [
        np.append(column[is_common], column[~is_common].sum()) + 1e-9 for column in (seen, expected)
    ]
    assert stats.chisquare(*pairs).pvalue > 1e-6  # the chance of a false alarm with other seeds


def test_what_is_sent_is_the_head_of_the_drafters_distribution_to_a_255th() -> None:
    params = SamplingParams(temperature=2.0)
    source = source_of(drawn_draft(logits_of(3), params, 1, (), (), 1))
    own = distribution(logits_of(3), params, [1], []).probabilities()
    head = np.sort(own)[-NUM_CANDIDATES:] / np.sort(own)[-NUM_CANDIDATES:].sum()
    sent = np.zeros(NUM_CANDIDATES)
    sent[-len(source.weights) :] = np.sort(source.probabilities())
    assert np.abs(sent - head).max() <= 1 / 255


def test_the_probability_says_nothing_of_the_token() -> None:
    drafts = [
        drawn_draft(logits_of(1), SamplingParams(temperature=2.0, seed=seed), 2, (), (), 1)
        for seed in range(20)
    ]
    assert len({draft.tokens for draft in drafts}) > 1
    assert len({draft.probabilities for draft in drafts}) == 1


@pytest.mark.parametrize(
    ("mode", "temperature", "is_drawn"),
    [
        (AcceptanceMode.REJECTION, 1.0, True),
        (AcceptanceMode.REJECTION, 0.0, False),  # there is one token to choose: nothing to draw
        (AcceptanceMode.EXACT, 1.0, False),
        (AcceptanceMode.TYPICAL, 1.0, False),
        (AcceptanceMode.RELAXED, 1.0, False),
    ],
)
def test_the_language_model_draws_where_that_is_of_use(
    mode: AcceptanceMode, temperature: float, is_drawn: bool
) -> None:
    task = DraftingTask(SamplingParams(temperature=temperature), 2, VOCAB_SIZE, mode)
    (draft,) = LanguageModelProposer(task, FakeDraftModel(VOCAB_SIZE)).expand([1, 2, 3], [()], 4)
    assert bool(draft.drawn_from) is is_drawn
    assert len(draft.tokens) == WIDTH


@given(
    seed=st.integers(0, 2**64 - 1),
    penalty=st.sampled_from([0.0, 1.5]),
    few=st.sets(st.integers(0, VOCAB_SIZE - 1), min_size=1).map(sorted),
)
def test_over_few_tokens_it_draws_as_if_the_others_were_impossible(
    seed: int, penalty: float, few: list[int]
) -> None:
    params = SamplingParams(temperature=2.0, presence_penalty=penalty, seed=seed)
    logits = logits_of(4)
    masked = np.full_like(logits, -np.inf)
    masked[few] = logits[few]
    place = 4, [1], [2, 3, 3]
    actual = drawn_draft(logits[few], params, *place, 3, np.array(few, np.int64))
    assert actual == drawn_draft(masked, params, *place, 3)
