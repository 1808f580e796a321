"""The compiled loop: the bits of its noise, and the tokens of the reference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider_cloud.fused_sampling import fused_exact_token, fused_gumbel
from outrider_common import noise
from outrider_common.acceptance import exact_token
from outrider_common.errors import ModelFileError
from outrider_common.noise import Purpose
from outrider_common.sampling import SamplingParams

VOCAB = 49152

numbers_of_64_bits = st.integers(0, 2**64 - 1)


@given(seed=numbers_of_64_bits, position=numbers_of_64_bits, size=st.integers(1, 600))
@settings(max_examples=100, deadline=None)
def test_the_noise_has_the_bits_of_the_reference(seed: int, position: int, size: int) -> None:
    uniforms = noise.uniform_vocabulary(np, seed, Purpose.TOKEN, position, size)
    np.testing.assert_array_equal(
        fused_gumbel(seed, position, size), noise.gumbel(np, uniforms), strict=True
    )


def test_the_noise_of_a_whole_vocabulary_has_the_bits_of_the_reference() -> None:
    uniforms = noise.uniform_vocabulary(np, 2**63 + 7, Purpose.TOKEN, 2**33 + 1, 4 * VOCAB)
    np.testing.assert_array_equal(
        fused_gumbel(2**63 + 7, 2**33 + 1, 4 * VOCAB), noise.gumbel(np, uniforms)
    )


@st.composite
def rows(draw: st.DrawFn) -> NDArray[np.float32]:
    """Rows shorter and longer than a chunk, some with ties and impossible tokens."""
    size = draw(st.integers(1, 700))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    row = rng.normal(scale=draw(st.sampled_from([0.0, 0.5, 4.0])), size=size)
    if draw(st.booleans()):
        row = row.round()
    row[1:][rng.random(size - 1) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = -math.inf
    return rng.permutation(row).astype(np.float32)


@given(
    row=rows(),
    seed=numbers_of_64_bits,
    position=numbers_of_64_bits,
    temperature=st.sampled_from([0.0, 1.0, 1e-300, 5e-324, 1e300]) | st.floats(1e-3, 20),
    top_k=st.sampled_from([0, 0, 0, 5]),
    top_p=st.sampled_from([1.0, 1.0, 0.7]),
    min_p=st.just(0.0) | st.floats(0, 0.99),
    penalty=st.sampled_from([0.0, 1.5]),
)
@settings(max_examples=300, deadline=None)
def test_the_token_is_that_of_the_reference(
    row: NDArray[np.float32],
    seed: int,
    position: int,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
    penalty: float,
) -> None:
    params = SamplingParams(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        presence_penalty=penalty,
        seed=seed,
    )
    expected = exact_token(row, params, position, [0], [0, len(row) - 1])
    assert fused_exact_token(row, params, position, [0], [0, len(row) - 1]) == expected


@pytest.mark.parametrize("temperature", [0.2, 1.0, 100.0])
def test_the_token_of_a_whole_vocabulary_is_that_of_the_reference(temperature: float) -> None:
    row = np.random.default_rng(0).normal(scale=3, size=VOCAB).astype(np.float32)
    params = SamplingParams(temperature=temperature, seed=9)
    for position in range(50):
        expected = exact_token(row, params, position, [], [])
        assert fused_exact_token(row, params, position, [], []) == expected


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(number: float, temperature: float) -> None:
    row = np.array([0, number, 1], dtype=np.float32)
    with pytest.raises(ModelFileError, match="token 1"):
        fused_exact_token(row, SamplingParams(temperature=temperature), 0, [], [])
