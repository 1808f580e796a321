"""Noise: known answers, the same bits in NumPy and PyTorch, random access, and statistics.

The statistical tests run on fixed numbers, so they pass or fail for good. Each would have failed
with a probability below `P_LIMIT` had the numbers been truly random.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]

from outrider_common import noise
from outrider_common.noise import Purpose

torch = pytest.importorskip("torch")

VOCAB = 49152
P_LIMIT = 1e-6
MAX_64 = 2**64 - 1

seeds = st.integers(0, MAX_64)
positions = st.integers(0, MAX_64)
purposes = st.sampled_from(Purpose)


def numpy_uniform(seed: int, purpose: Purpose, position: int, size: int) -> NDArray[np.float64]:
    uniforms: NDArray[np.float64] = noise.uniform_vocabulary(np, seed, purpose, position, size)
    return uniforms


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    assert noise.philox(counter, key) == words
    in_numpy = noise.philox(tuple(np.array([word]) for word in counter), key)
    in_torch = noise.philox(tuple(torch.tensor([word]) for word in counter), key)
    assert tuple(word.item() for word in in_numpy) == words
    assert tuple(word.item() for word in in_torch) == words


GOLDEN = [
    (0, Purpose.TOKEN, 0, 0, 0x6627E8D5, "0x1.5b6c7ac8fd9dcp-4"),
    (1, Purpose.TOKEN, 0, 49151, 0x3E510BDA, "-0x1.61f9d40816202p-2"),
    (MAX_64, Purpose.ACCEPT, 2**33 + 5, 151935, 0x0C0EAC63, "-0x1.1df01d395e774p+0"),
    (0x0123456789ABCDEF, Purpose.RESIDUAL, MAX_64, 7, 0x445ED86F, "-0x1.1c7a63015611fp-2"),
]


@pytest.mark.parametrize(("seed", "purpose", "position", "token", "word", "gumbel"), GOLDEN)
def test_the_noise_never_changes(
    seed: int, purpose: Purpose, position: int, token: int, word: int, gumbel: str
) -> None:
    uniforms = noise.uniform(np, seed, purpose, position, np.array([token]))
    assert uniforms[0] == (word + 0.5) / 2**32
    assert float(noise.gumbel(np, uniforms)[0]).hex() == gumbel


@given(seed=seeds, purpose=purposes, position=positions)
@settings(max_examples=25, deadline=None)
def test_numpy_and_torch_give_the_same_bits_for_a_whole_vocabulary(
    seed: int, purpose: Purpose, position: int
) -> None:
    expected = numpy_uniform(seed, purpose, position, VOCAB)
    actual = noise.uniform_vocabulary(torch, seed, purpose, position, VOCAB)
    assert actual.dtype == torch.float64
    np.testing.assert_array_equal(actual.numpy(), expected)
    np.testing.assert_array_equal(
        noise.gumbel(torch, actual).numpy(), noise.gumbel(np, expected), strict=True
    )


@pytest.mark.parametrize("num_threads", [1, 2, 4])
def test_the_bits_do_not_depend_on_the_number_of_threads(num_threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        uniforms = noise.uniform_vocabulary(torch, 3, Purpose.TOKEN, 9, 4 * VOCAB)
        in_torch = noise.gumbel(torch, uniforms).numpy()
    finally:
        torch.set_num_threads(before)
    expected = noise.gumbel(np, numpy_uniform(3, Purpose.TOKEN, 9, 4 * VOCAB))
    np.testing.assert_array_equal(in_torch, expected)


def test_the_bits_do_not_depend_on_the_memory_layout() -> None:
    ids = torch.arange(VOCAB)
    expected = noise.gumbel(np, numpy_uniform(3, Purpose.TOKEN, 9, VOCAB))
    scattered = torch.stack([ids, ids], dim=1)[:, 0]
    uniforms = noise.uniform(torch, 3, Purpose.TOKEN, 9, scattered)
    np.testing.assert_array_equal(noise.gumbel(torch, uniforms).numpy(), expected)
    every_third = noise.gumbel(torch, uniforms[1::3]).numpy()
    np.testing.assert_array_equal(every_third, expected[1::3])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("seed", [0, 1, 0x0123456789ABCDEF, MAX_64])
def test_cuda_gives_the_same_bits(seed: int) -> None:
    for position in (0, 1, 4095, MAX_64):
        expected = numpy_uniform(seed, Purpose.TOKEN, position, VOCAB)
        actual = noise.uniform_vocabulary(torch, seed, Purpose.TOKEN, position, VOCAB, "cuda")
        np.testing.assert_array_equal(actual.cpu().numpy(), expected)
        np.testing.assert_array_equal(
            noise.gumbel(torch, actual).cpu().numpy(), noise.gumbel(np, expected)
        )


@given(
    seed=seeds,
    purpose=purposes,
    position=positions,
    size=st.integers(1, 2000),
    data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_any_subset_and_any_single_number_equal_those_of_the_whole_vocabulary(
    seed: int, purpose: Purpose, position: int, size: int, data: st.DataObject
) -> None:
    whole = numpy_uniform(seed, purpose, position, size)
    ids = data.draw(st.lists(st.integers(0, size - 1), max_size=50))
    subset = noise.uniform(np, seed, purpose, position, np.array(ids, dtype=np.int64))
    np.testing.assert_array_equal(subset, whole[ids])
    singles = [noise.uniform_scalar(seed, purpose, position, token) for token in ids]
    np.testing.assert_array_equal(singles, whole[ids])


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_seed_or_position_of_more_than_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        noise.uniform_scalar(number, Purpose.TOKEN, 0, 0)
    with pytest.raises(ValueError, match="64-bit"):
        noise.uniform_vocabulary(np, 0, Purpose.TOKEN, number, 8)


def test_seed_position_and_purpose_all_matter() -> None:
    keys = [
        (0, Purpose.TOKEN, 0),
        (1, Purpose.TOKEN, 0),
        (2**32, Purpose.TOKEN, 0),
        (0, Purpose.ACCEPT, 0),
        (0, Purpose.TOKEN, 1),
        (0, Purpose.TOKEN, 2**32),
    ]
    assert len({tuple(numpy_uniform(*key, 8).tolist()) for key in keys}) == len(keys)


def extreme_uniforms() -> NDArray[np.float64]:
    """The 32-bit uniforms nearest to 0, 1/2 and 1, and many between."""
    near = np.arange(2000)
    words = np.concatenate([near, 2**31 - 1000 + near, 2**32 - 1 - near, near * 2147483])
    uniforms: NDArray[np.float64] = (words + 0.5) * 2.0**-32
    return uniforms


def test_the_logarithm_is_right_to_a_relative_error_of_1e_13() -> None:
    x = extreme_uniforms()
    for argument in (x, -np.log(x), np.array([1.0, 2.0, 0.5, 2.0**0.5, 1e-300, 1e300])):
        np.testing.assert_allclose(noise.log(np, argument), np.log(argument), rtol=1e-13, atol=0)


def test_gumbel_noise_is_finite_rises_with_the_uniform_and_stays_below_its_bound() -> None:
    uniforms = np.unique(extreme_uniforms())
    gumbels = noise.gumbel(np, uniforms)
    assert gumbels.min() > -3.14
    assert gumbels.max() < 22.88
    assert (np.diff(gumbels) >= 0).all()
    bounds = noise.gumbel_bound(np, uniforms)
    assert (bounds >= gumbels).all()
    assert (bounds + np.log1p(-uniforms)).max() < 0.06


def test_the_noise_follows_the_gumbel_distribution() -> None:
    for seed in (0, 1, 12345, MAX_64):
        gumbels = noise.gumbel(np, numpy_uniform(seed, Purpose.TOKEN, 17, 4 * VOCAB))
        assert stats.kstest(gumbels, "gumbel_r").pvalue > P_LIMIT


def test_the_noise_of_one_token_over_all_positions_and_over_all_seeds_is_uniform() -> None:
    over_positions = [noise.uniform_scalar(7, Purpose.ACCEPT, i, 3) for i in range(10_000)]
    over_seeds = [noise.uniform_scalar(i, Purpose.ACCEPT, 7, 3) for i in range(10_000)]
    assert stats.kstest(over_positions, "uniform").pvalue > P_LIMIT
    assert stats.kstest(over_seeds, "uniform").pvalue > P_LIMIT


def p_value_of_independence(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Chi-square over 16 x 16 equal cells: joint uniformity, and so independence, of two series."""
    table = np.histogram2d(x, y, bins=16, range=[[0, 1], [0, 1]])[0]
    return float(stats.chisquare(table.ravel()).pvalue)


def test_neighbouring_tokens_positions_seeds_and_purposes_are_independent() -> None:
    base = numpy_uniform(11, Purpose.TOKEN, 5, VOCAB)
    neighbours = {
        "token": np.roll(base, 1),
        "block": np.roll(base, 4),
        "position": numpy_uniform(11, Purpose.TOKEN, 6, VOCAB),
        "position far up": numpy_uniform(11, Purpose.TOKEN, 5 + 2**32, VOCAB),
        "seed": numpy_uniform(12, Purpose.TOKEN, 5, VOCAB),
        "seed far up": numpy_uniform(11 + 2**32, Purpose.TOKEN, 5, VOCAB),
        "purpose": numpy_uniform(11, Purpose.RESIDUAL, 5, VOCAB),
    }
    p_values = {name: p_value_of_independence(base, other) for name, other in neighbours.items()}
    assert all(p > P_LIMIT for p in p_values.values()), p_values


def test_the_test_of_independence_notices_dependence() -> None:
    base = numpy_uniform(11, Purpose.TOKEN, 5, VOCAB)
    mixed = np.where(base < 0.1, base, np.roll(base, 1))
    assert p_value_of_independence(base, mixed) < P_LIMIT
