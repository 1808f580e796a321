"""Ranking of guesses: the first is the target's own choice, the others are its next ones.

But for tokens that are so unlikely that they are not considered.
"""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_common import noise
from outrider_common.acceptance import exact_token
from outrider_common.errors import ModelFileError
from outrider_common.noise import Purpose
from outrider_common.sampling import Logits, SamplingParams, penalise
from outrider_edge.ranking import DISTURBANCE, NEGLIGIBLE, Guesses, Place, Ranker

VOCAB_SIZE = 50
CONTEXT = ([3, 4], [4, 5, 5])
POSITION = 5
SAMPLINGS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 7]),
    top_p=st.sampled_from([1.0, 0.9]),
    presence_penalty=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 2**64 - 1),
)


def logits_of(seed: int) -> Logits:
    return np.random.default_rng(seed).normal(0, 2, VOCAB_SIZE).astype(np.float32)


def rank(
    logits: Logits,
    sampling: SamplingParams,
    position: int,
    prompt: Sequence[int],
    output: Sequence[int],
    count: int,
) -> Guesses:
    return Ranker(sampling, len(logits)).rank(logits, position, prompt, output, count)


@settings(deadline=None)
@given(SAMPLINGS, st.integers(0, 2**32), st.integers(1, 9))
def test_each_guess_is_what_the_target_would_choose_without_the_earlier_ones(
    sampling: SamplingParams, seed: int, count: int
) -> None:
    logits = logits_of(seed)
    guesses = rank(logits, sampling, POSITION, *CONTEXT, count)
    assert len(guesses.tokens) == len(guesses.probabilities) <= count
    scores = penalise(logits, sampling, *CONTEXT)
    lowest = scores.max() + sampling.temperature * math.log(NEGLIGIBLE)
    left = logits.copy()
    for rank_of_guess, token in enumerate(guesses.tokens):
        if rank_of_guess == 0 or (sampling.top_k == 0 and sampling.top_p == 1):
            chosen = exact_token(left, sampling, POSITION, *CONTEXT)
            assert token == chosen or (not sampling.is_greedy and scores[chosen] < lowest)
        left[token] = -np.inf


@settings(deadline=None)
@given(SAMPLINGS, st.integers(0, 2**32))
def test_fewer_guesses_are_the_first_of_more(sampling: SamplingParams, seed: int) -> None:
    logits = logits_of(seed)
    many = rank(logits, sampling, POSITION, *CONTEXT, 8)
    for count in range(1, 8):
        assert rank(logits, sampling, POSITION, *CONTEXT, count).tokens == many.tokens[:count]


@settings(deadline=None)
@given(SAMPLINGS, st.lists(st.tuples(st.integers(0, 2**32), st.integers(4, 6)), max_size=6))
def test_places_that_are_ranked_together_are_ranked_as_alone(
    sampling: SamplingParams, seeds_and_positions: list[tuple[int, int]]
) -> None:
    rows = [logits_of(seed) for seed, _ in seeds_and_positions]
    places = [Place(position, *CONTEXT) for _, position in seeds_and_positions]
    alone = [
        rank(row, sampling, place.position, *CONTEXT, 4)
        for row, place in zip(rows, places, strict=True)
    ]
    assert Ranker(sampling, VOCAB_SIZE).rank_all(rows, places, 4) == alone


@given(st.integers(0, 2**32), st.floats(0.1, 40))
def test_a_probability_is_a_sharpened_softmax_of_the_logits_when_greedy(
    seed: int, spread: float
) -> None:
    logits = logits_of(seed) * np.float32(spread)
    weights = np.exp((logits.astype(np.float64) - logits.max()) / DISTURBANCE)
    guesses = rank(logits, SamplingParams(), POSITION, (), (), 4)
    expected = weights[list(guesses.tokens)] / weights.sum()
    assert guesses.probabilities == pytest.approx(expected, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_when_sampled_it_counts_by_how_much_noise_and_logit_together_are_ahead(
    temperature: float,
) -> None:
    logits = np.log(np.array([0.1, 0.7, 0.2], dtype=np.float32)) + 40
    sampling = SamplingParams(temperature=temperature, seed=1)
    noises = noise.gumbel(np, noise.uniform(np, 1, Purpose.TOKEN, 0, np.arange(3)))
    weights = np.exp((logits - 40 + temperature * noises) / DISTURBANCE)
    guesses = rank(logits, sampling, 0, (), (), 3)
    expected = dict(enumerate(weights / weights.sum()))
    found = dict(zip(guesses.tokens, guesses.probabilities, strict=True))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_logits_are_left_as_they_are() -> None:
    logits = logits_of(0)
    rank(logits, SamplingParams(), POSITION, (), (), 5)
    np.testing.assert_array_equal(logits, logits_of(0))


def test_there_are_no_more_guesses_than_possible_tokens() -> None:
    logits = np.array([0.0, -np.inf, 1.0], np.float32)
    assert rank(logits, SamplingParams(), 0, (), (), 5).tokens == (2, 0)
    assert len(rank(logits, SamplingParams(temperature=1.0), 0, (), (), 5).tokens) == 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_drafter_is_named(temperature: float) -> None:
    logits = np.array([0.0, np.nan], np.float32)
    with pytest.raises(ModelFileError, match="logit of token 1 is nan"):
        rank(logits, SamplingParams(temperature=temperature), 0, (), (), 1)


@given(
    SAMPLINGS,
    st.integers(0, 1000),
    st.integers(1, 10),
    st.sets(st.integers(0, VOCAB_SIZE - 1), min_size=1).map(sorted),
)
def test_over_few_tokens_it_guesses_as_if_the_others_were_impossible(
    sampling: SamplingParams, seed: int, count: int, few: list[int]
) -> None:
    logits = logits_of(seed)
    masked = np.full_like(logits, -np.inf)
    masked[few] = logits[few]
    expected = rank(masked, sampling, POSITION, *CONTEXT, count)
    ranker = Ranker(sampling, len(few), np.array(few, np.int64))
    actual = ranker.rank(logits[few], POSITION, *CONTEXT, count)
    assert actual.tokens == expected.tokens
    np.testing.assert_allclose(actual.probabilities, expected.probabilities, rtol=1e-5)
