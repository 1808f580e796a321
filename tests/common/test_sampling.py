"""Sampling: what is refused, the plain reference, and agreement with Transformers."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider_common.errors import InvalidSamplingError, ModelFileError
from outrider_common.sampling import (
    Floats,
    Logits,
    SamplingParams,
    distribution,
    log_probabilities,
    penalise,
)

VOCAB = 49152


def plain_penalties(
    logits: Logits, params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> Logits:
    values = logits.astype(np.float64)
    for token in {*prompt, *output}:
        factor = params.repetition_penalty
        values[token] = values[token] / factor if values[token] > 0 else values[token] * factor
    for token in set(output):
        penalty = params.frequency_penalty * output.count(token) + params.presence_penalty
        values[token] -= penalty
    return values.astype(logits.dtype)


def ranked(values: Floats | Logits) -> list[int]:
    """All indices, those of the largest values first; of equal ones the lowest first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def plain_log_probabilities(
    logits: Logits, params: SamplingParams, prompt: Sequence[int], output: Sequence[int]
) -> Floats:
    """The same as `log_probabilities`, one filter after the other and with full sorts."""
    logits = plain_penalties(logits, params, prompt, output)
    top_k, temperature = (1, 1.0) if params.is_greedy else (params.top_k, params.temperature)
    ids = np.array(sorted(ranked(logits)[: top_k or None]))
    scaled = (logits[ids].astype(np.float64) - float(logits.max())) / temperature
    is_kept = scaled > -math.inf
    weights = np.exp(scaled)
    if params.top_p < 1:
        order = ranked(weights)
        mass_before = np.concatenate([[0.0], np.cumsum(weights[order])[:-1]])
        is_kept[order] &= mass_before < params.top_p * weights.sum()
    if params.min_p:
        is_kept &= scaled >= math.log(params.min_p)
    dense = np.full(len(logits), -np.inf)
    dense[ids[is_kept]] = scaled[is_kept] - math.log(weights[is_kept].sum())
    return dense


@st.composite
def sampling_params(draw: st.DrawFn) -> SamplingParams:
    penalty = st.floats(-2, 2)
    return SamplingParams(
        temperature=draw(st.just(0.0) | st.just(1.0) | st.floats(1e-3, 10)),
        top_k=draw(st.just(0) | st.integers(1, 40)),
        top_p=draw(st.just(1.0) | st.floats(1e-6, 1) | st.sampled_from([0.25, 0.5, 0.75])),
        min_p=draw(st.just(0.0) | st.floats(0, 0.999)),
        repetition_penalty=draw(st.just(1.0) | st.floats(0.1, 10)),
        presence_penalty=draw(st.just(0.0) | penalty),
        frequency_penalty=draw(st.just(0.0) | penalty),
    )


@st.composite
def rows_of_logits(draw: st.DrawFn) -> NDArray[np.float32]:
    """Rows with many ties, and rows without."""
    few = st.sampled_from([-math.inf, -3.0, -1.0, 0.0, 1.0])
    values = draw(st.lists(st.floats(-30, 30, width=32) | few, min_size=1, max_size=60))
    row = np.array(values, dtype=np.float32)
    row[draw(st.integers(0, len(row) - 1))] = draw(st.floats(-5, 30, width=32))
    return row


@given(row=rows_of_logits(), params=sampling_params(), data=st.data())
@example(np.zeros(8, np.float32), SamplingParams(temperature=1, top_k=3), None)
@example(np.zeros(8, np.float32), SamplingParams(temperature=1, top_p=0.5), None)
@example(np.array([0, 0, -1e-36, 0], np.float32), SamplingParams(temperature=1, top_p=0.75), None)
@example(np.array([-1, -math.inf], np.float32), SamplingParams(temperature=1e-300), None)
@settings(max_examples=500, deadline=None)
def test_the_fast_distribution_equals_the_plain_one(
    row: NDArray[np.float32], params: SamplingParams, data: st.DataObject | None
) -> None:
    tokens = st.lists(st.integers(0, len(row) - 1), max_size=10)
    prompt = data.draw(tokens) if data else []
    output = data.draw(tokens) if data else []
    expected = plain_log_probabilities(row, params, prompt, output)
    actual = log_probabilities(row, params, prompt, output)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-12)


LARGE_PARAMS = [
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=0.7, top_k=50),
    SamplingParams(temperature=0.7, top_k=5000),
    SamplingParams(temperature=1.0, top_p=0.9),
    SamplingParams(temperature=3.0, top_p=0.99),
    SamplingParams(temperature=1.0, top_k=50, top_p=0.9, min_p=0.05),
    SamplingParams(temperature=1.0, min_p=0.02),
]


def large_row(seed: int) -> NDArray[np.float32]:
    """Logits with the spread of a language model's: a few far above many."""
    rng = np.random.default_rng(seed)
    row = rng.normal(scale=2.5, size=VOCAB)
    row[rng.integers(VOCAB, size=200)] += 8
    return row.astype(np.float32)


@pytest.mark.parametrize("params", LARGE_PARAMS, ids=repr)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_fast_distribution_equals_the_plain_one_on_a_whole_vocabulary(
    params: SamplingParams, seed: int
) -> None:
    row = large_row(seed)
    expected = plain_log_probabilities(row, params, [], [])
    actual = log_probabilities(row, params, [], [])
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize("params", LARGE_PARAMS, ids=repr)
@pytest.mark.parametrize("repetition_penalty", [1.0, 1.3])
def test_the_distribution_equals_that_of_transformers(
    params: SamplingParams, repetition_penalty: float
) -> None:
    torch = pytest.importorskip("torch")
    processors = pytest.importorskip("transformers.generation.logits_process")
    row = large_row(3)
    seen = np.random.default_rng(4).integers(VOCAB, size=300).tolist()
    chain = [processors.TemperatureLogitsWarper(params.temperature)]
    if repetition_penalty != 1:
        chain.insert(0, processors.RepetitionPenaltyLogitsProcessor(repetition_penalty))
    if params.top_k:
        chain.append(processors.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        chain.append(processors.TopPLogitsWarper(params.top_p))
    if params.min_p:
        chain.append(processors.MinPLogitsWarper(params.min_p))
    # In float64, as float32 sums decide otherwise at the edge of a nucleus.
    scores = torch.tensor(row, dtype=torch.float64)[None]
    for processor in chain:
        scores = processor(torch.tensor(seen)[None], scores)
    expected = torch.log_softmax(scores[0], dim=-1).numpy()
    params = replace(params, repetition_penalty=repetition_penalty)
    actual = log_probabilities(row.astype(np.float64), params, seen[:200], seen[200:])
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("temperature", "top_p", "min_p", "repetition_penalty")
            for value in (math.nan, math.inf, -math.inf, -0.5)
        ),
        *(
            (name, value)
            for name in ("presence_penalty", "frequency_penalty")
            for value in (math.nan, math.inf, -math.inf, -2.1, 2.1)
        ),
        ("top_p", 0.0),
        ("top_p", 1.01),
        ("min_p", 1.0),
        ("repetition_penalty", 0.0),
        ("top_k", -1),
        ("top_k", 1.5),
        ("top_k", True),
        ("seed", -1),
        ("seed", 2**64),
        ("seed", 1.0),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InvalidSamplingError, match=f"^{name} is {value!r}; use a ") as caught:
        SamplingParams(**{name: value})  # type: ignore[arg-type]
    assert caught.value.status == "INVALID_ARGUMENT"


def test_the_limits_of_every_range_are_allowed() -> None:
    SamplingParams(temperature=0, top_k=0, top_p=1, min_p=0, presence_penalty=-2, seed=0)
    SamplingParams(top_p=1e-9, min_p=0.999, frequency_penalty=2, seed=2**64 - 1)


def test_the_defaults_are_greedy_and_without_penalties() -> None:
    assert SamplingParams().is_greedy
    assert not SamplingParams().has_penalties
    assert not SamplingParams(temperature=0.1).is_greedy
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        assert SamplingParams(**{name: 0.5}).has_penalties  # type: ignore[arg-type]


def test_penalties_follow_the_papers_formula_and_leave_the_logits_alone() -> None:
    row = np.array([2.0, -2.0, 4.0, 1.0], dtype=np.float32)
    params = SamplingParams(repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25)
    penalised = penalise(row, params, [0, 1], [2, 2])
    assert penalised.tolist() == [1.0, -4.0, 4.0 / 2 - 0.5 - 2 * 0.25, 1.0]
    assert penalised.dtype == np.float32
    assert row.tolist() == [2.0, -2.0, 4.0, 1.0]


def test_tokens_without_a_logit_are_not_penalised() -> None:
    row = np.array([2.0, 1.0])
    params = SamplingParams(repetition_penalty=2, presence_penalty=1)
    assert penalise(row, params, [7], [1, 9]).tolist() == [2.0, -0.5]


def test_greedy_parameters_give_all_mass_to_the_lowest_of_equal_best_tokens() -> None:
    sampled = distribution(np.array([0.0, 3.0, 3.0]), SamplingParams(top_k=2), [], [])
    assert sampled.token_ids.tolist() == [1]
    assert sampled.probabilities().tolist() == [1.0]


def test_a_tiny_temperature_is_greedy_decoding() -> None:
    row = large_row(5)
    for temperature in (1e-9, 5e-324):
        sampled = distribution(row, SamplingParams(temperature=temperature), [], [])
        assert sampled.token_ids[sampled.probabilities() > 1e-9].tolist() == [row.argmax()]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_precision_of_logits_is_taken(dtype: type[np.floating]) -> None:
    sampled = distribution(np.array([1, 2, 3], dtype=dtype), SamplingParams(temperature=2), [], [])
    expected = np.exp([0.5, 1.0, 1.5]) / np.exp([0.5, 1.0, 1.5]).sum()
    np.testing.assert_allclose(sampled.probabilities(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "culprit"),
    [
        ([0.0, math.nan, 1.0], "token 1 is nan"),
        ([0.0, 1.0, math.inf], "token 2 is inf"),
        ([-math.inf, -math.inf], "token 0 is -inf"),
    ],
)
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_no_sound_model_gives_are_refused(
    row: list[float], culprit: str, temperature: float
) -> None:
    with pytest.raises(ModelFileError, match=culprit):
        distribution(np.array(row), SamplingParams(temperature=temperature), [], [])


@given(row=rows_of_logits(), params=sampling_params())
@settings(max_examples=200, deadline=None)
def test_a_distribution_is_ascending_normalised_and_never_empty(
    row: NDArray[np.float32], params: SamplingParams
) -> None:
    sampled = distribution(row, params, [], [])
    assert len(sampled.token_ids) >= 1
    assert (np.diff(sampled.token_ids) > 0).all()
    assert -1e-15 < sampled.log_weights.max() <= 0  # of weights that round alike one is kept
    assert math.isclose(sampled.probabilities().sum(), 1, rel_tol=1e-12)
    np.testing.assert_allclose(
        np.exp(sampled.log_probabilities()), sampled.probabilities(), rtol=1e-12
    )


def test_a_token_is_found_if_and_only_if_it_can_be_sampled() -> None:
    row = np.array([0.0, 5.0, -math.inf, 4.0])
    sampled = distribution(row, SamplingParams(temperature=1, top_k=3), [], [])
    assert [sampled.find(token) for token in (-1, 0, 1, 2, 3, 4)] == [None, 0, 1, None, 2, None]
