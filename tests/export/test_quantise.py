"""Block-wise quantisation of matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from outrider_common.errors import UnsupportedError
from outrider_export.quantise import BITS, BLOCK_SIZE, Method, dequantise, quantise

METHODS = list(Method)
# The share of a block's range (of its largest weight for SYMMETRIC_8) that an error may reach.
# The grid of ZERO_POINT_4 may be narrower than the block, and its scale is fitted afterwards.
WORST = {Method.SYMMETRIC_8: 0.51 / 127, Method.OFFSET_4: 0.51 / 15, Method.ZERO_POINT_4: 0.3}

matrices = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 3).map(lambda blocks: blocks * BLOCK_SIZE)),
    elements=st.floats(-8, 8, width=32).map(lambda x: 0.0 if abs(x) < 1e-4 else x),
)


def normal(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@given(weight=matrices)
def test_no_weight_moves_further_than_a_step(weight: NDArray[np.float32], method: Method) -> None:
    blocks = weight.reshape(len(weight), -1, BLOCK_SIZE)
    low, high = np.minimum(blocks.min(-1), 0), np.maximum(blocks.max(-1), 0)
    unit = np.abs(blocks).max(-1) if method is Method.SYMMETRIC_8 else high - low
    error = np.abs(dequantise(quantise(weight, method)) - weight).reshape(blocks.shape)
    assert (error <= WORST[method] * unit[..., None] + 1e-6).all()


@pytest.mark.parametrize(
    ("method", "most"),
    [(Method.SYMMETRIC_8, 0.007), (Method.OFFSET_4, 0.085), (Method.ZERO_POINT_4, 0.085)],
)
def test_the_error_on_normal_weights_is_small(method: Method, most: float) -> None:
    weight = normal(1, 64, 256)
    error = dequantise(quantise(weight, method)) - weight
    assert np.sqrt(np.square(error).mean()) < most


@pytest.mark.parametrize("method", METHODS)
def test_the_layout_is_that_of_the_operator(method: Method) -> None:
    matrix = quantise(normal(2, 7, 96), method)
    bits = BITS[method]
    assert matrix.shape == (7, 96)
    assert matrix.codes.shape == (7, 3, BLOCK_SIZE * bits // 8)
    assert matrix.scales.shape == (7, 3)
    if method is Method.ZERO_POINT_4:
        assert matrix.zero_points is not None
        assert matrix.zero_points.shape == (7, 2)


def test_the_first_of_two_codes_is_in_the_low_half_of_a_byte() -> None:
    weight = np.zeros((1, BLOCK_SIZE), np.float32)
    weight[0, 0] = 15  # the greatest code; the others are at the least
    assert quantise(weight, Method.OFFSET_4).codes[0, 0].tolist() == [0x0F] + [0] * 15


@given(
    codes=hnp.arrays(np.uint8, (3, 2, BLOCK_SIZE), elements=st.integers(0, 15)),
    scale=st.floats(1 / 64, 1, width=32),
    low=st.floats(-2, 2, width=32),
)
def test_weights_on_a_grid_of_scale_and_minimum_come_through_unchanged(
    codes: NDArray[np.uint8], scale: float, low: float
) -> None:
    codes[..., 0], codes[..., 1] = 0, 15  # the grid is found by its ends
    weight = (codes * np.float32(scale) + np.float32(low)).reshape(3, -1)
    np.testing.assert_allclose(
        dequantise(quantise(weight, Method.OFFSET_4)), weight, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("method", METHODS)
def test_constant_blocks_survive(method: Method) -> None:
    for value in (0.0, 0.5, -3.0):
        weight = np.full((2, BLOCK_SIZE), value, np.float32)
        np.testing.assert_allclose(dequantise(quantise(weight, method)), weight, atol=1e-6)


def test_a_large_matrix_is_quantised_as_its_rows_are() -> None:
    weight = normal(3, 5000, BLOCK_SIZE)
    whole = quantise(weight, Method.ZERO_POINT_4)
    last = quantise(weight[-3:], Method.ZERO_POINT_4)
    np.testing.assert_array_equal(whole.codes[-3:], last.codes)


def test_a_width_that_is_no_multiple_of_the_block_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="33 input features"):
        quantise(normal(4, 2, 33), Method.SYMMETRIC_8)
