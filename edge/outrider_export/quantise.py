"""Block-wise quantisation of weight matrices, in the layout of ONNX Runtime's MatMulNBits.

Each run of `BLOCK_SIZE` weights of an output feature shares a scale, a zero point and an offset:
weight = (code - zero_point) * scale + offset. Knows nothing of graphs or models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from outrider_common.errors import UnsupportedError

BLOCK_SIZE = 32
"""Weights per block: what GGUF files use, so that their grids can be met exactly."""

_ROWS_AT_ONCE = 2048  # bounds the memory of the intermediate arrays
_SHRINKS = (0.88, 0.94, 1.0)  # trial widths of the 4-bit grid, as shares of the block's range

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


class Method(StrEnum):
    """How the codes of a block are chosen."""

    SYMMETRIC_8 = "symmetric_8"
    ZERO_POINT_4 = "zero_point_4"
    OFFSET_4 = "offset_4"


class Scheme(StrEnum):
    """How a bundle stores its weights; the values are the names that users write."""

    NONE = "none"
    INT8 = "int8"
    INT4 = "int4"
    INT4_OFFSET = "int4-offset"


@dataclass(frozen=True, slots=True)
class Precision:
    """What a scheme does with each part of a model. None: it stays in fp32.

    Attributes:
        layers: the linear layers of the decoder.
        head: the LM head, as it scores every token.
        embedding: the embedding, and the LM head as it scores the best tokens again.
    """

    layers: Method | None
    head: Method | None
    embedding: Method | None


PRECISIONS: Mapping[Scheme, Precision] = MappingProxyType(
    {
        Scheme.NONE: Precision(None, None, None),
        Scheme.INT8: Precision(Method.SYMMETRIC_8, Method.SYMMETRIC_8, Method.SYMMETRIC_8),
        Scheme.INT4: Precision(Method.ZERO_POINT_4, Method.ZERO_POINT_4, Method.SYMMETRIC_8),
        Scheme.INT4_OFFSET: Precision(Method.OFFSET_4, Method.SYMMETRIC_8, Method.SYMMETRIC_8),
    }
)

BITS: Mapping[Method | None, int] = MappingProxyType(
    {None: 32, Method.SYMMETRIC_8: 8, Method.ZERO_POINT_4: 4, Method.OFFSET_4: 4}
)


@dataclass(frozen=True, slots=True)
class QuantisedMatrix:
    """A quantised weight matrix of shape [n, k], in `k / BLOCK_SIZE` blocks a row.

    Attributes:
        bits: of each code, 4 or 8.
        codes: uint8 [n, blocks, BLOCK_SIZE * bits / 8]; of two 4-bit codes in a byte the first
            is in the low half.
        scales: float32 [n, blocks].
        zero_points: uint8 [n, ceil(blocks * bits / 8)], packed as the codes are; None: all are
            2^(bits - 1).
        offsets: float32 [n, blocks]; None: all are 0.
    """

    bits: int
    codes: Bytes
    scales: Floats
    zero_points: Bytes | None
    offsets: Floats | None

    @property
    def shape(self) -> tuple[int, int]:
        """[n, k]: output and input features."""
        return self.codes.shape[0], self.codes.shape[1] * BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class _Codes:
    """Unpacked codes [rows, blocks, BLOCK_SIZE] and, per block, [rows, blocks] of the rest."""

    codes: Bytes
    scales: Floats
    zero_points: Bytes | None
    offsets: Floats | None


def quantise(weight: Floats, method: Method) -> QuantisedMatrix:
    """Quantise a matrix.

    Args:
        weight: [n, k]; k must be a multiple of `BLOCK_SIZE`.
        method: how.

    Raises:
        UnsupportedError: k is not such a multiple.
    """
    n, k = weight.shape
    if k % BLOCK_SIZE:
        raise UnsupportedError(
            f"A layer with {k} input features cannot be quantised in blocks of {BLOCK_SIZE}: "
            "export the model with --quantisation none."
        )
    blocks = weight.reshape(n, k // BLOCK_SIZE, BLOCK_SIZE)
    starts = range(0, n, _ROWS_AT_ONCE)
    parts = [_METHODS[method](blocks[start : start + _ROWS_AT_ONCE]) for start in starts]
    return _joined(parts, BITS[method])


def _joined(parts: list[_Codes], bits: int) -> QuantisedMatrix:
    pack = _pack if bits == 4 else np.ascontiguousarray
    zeros = [part.zero_points for part in parts if part.zero_points is not None]
    offsets = [part.offsets for part in parts if part.offsets is not None]
    return QuantisedMatrix(
        bits=bits,
        codes=pack(np.concatenate([part.codes for part in parts])),
        scales=np.concatenate([part.scales for part in parts]),
        zero_points=pack(np.concatenate(zeros)) if zeros else None,
        offsets=np.concatenate(offsets) if offsets else None,
    )


def dequantise(matrix: QuantisedMatrix) -> Floats:
    """The weights that a quantised matrix stands for: float32 [n, k]."""
    codes = _unpack(matrix.codes) if matrix.bits == 4 else matrix.codes
    weight = (codes - _zero_points(matrix)[..., None]) * matrix.scales[..., None]
    if matrix.offsets is not None:
        weight = weight + matrix.offsets[..., None]
    return np.asarray(weight, np.float32).reshape(matrix.shape)


def _zero_points(matrix: QuantisedMatrix) -> Floats:
    """Unpacked, float32 [n, blocks]."""
    if matrix.zero_points is None:
        return np.full(matrix.scales.shape, 2 ** (matrix.bits - 1), np.float32)
    unpacked = _unpack(matrix.zero_points)[:, : matrix.scales.shape[1]]
    return unpacked.astype(np.float32)


def _symmetric_8(blocks: Floats) -> _Codes:
    """The scale puts the largest weight of the block at code 255 or 1."""
    scales = _never_zero(np.abs(blocks).max(axis=-1) / np.float32(127))
    return _Codes(_codes(blocks, scales, np.float32(128), 255), scales, None, None)


def _offset_4(blocks: Floats) -> _Codes:
    """The 16 codes span the block from its least to its greatest weight, zero or not.

    Weights that were quantised so before, as GGUF's Q4_1 does, come through unchanged.
    """
    low = blocks.min(axis=-1)
    scales = _never_zero((blocks.max(axis=-1) - low) / np.float32(15))
    codes = _codes(blocks - low[..., None], scales, np.float32(0), 15)
    return _Codes(codes, scales, None, low + 8 * scales)


def _zero_point_4(blocks: Floats) -> _Codes:
    """The best of a few grids by squared error, each with its scale fitted to the codes."""
    trials = [_zero_point_trial(blocks, np.float32(shrink / 15)) for shrink in _SHRINKS]
    errors = np.stack([_squared_error(blocks, trial) for trial in trials])
    best = errors.argmin(axis=0)  # [rows, blocks]
    zeros = [trial.zero_points for trial in trials if trial.zero_points is not None]
    return _Codes(
        codes=np.choose(best[..., None], [trial.codes for trial in trials]),
        scales=np.choose(best, [trial.scales for trial in trials]),
        zero_points=np.choose(best, zeros),
        offsets=None,
    )


def _zero_point_trial(blocks: Floats, step: np.float32) -> _Codes:
    low = np.minimum(blocks.min(axis=-1), 0)
    high = np.maximum(blocks.max(axis=-1), 0)
    scales = _never_zero((high - low) * step)
    zeros = np.clip(np.rint(-low / scales), 0, 15)
    codes = _codes(blocks, scales, zeros[..., None], 15)
    levels = codes - zeros[..., None]
    # Least squares: the scale s that minimises |s * levels - weights|^2.
    norms = np.maximum(np.square(levels).sum(axis=-1), np.float32(1))
    fitted = (levels * blocks).sum(axis=-1) / norms
    return _Codes(codes, fitted, zeros.astype(np.uint8), None)


def _squared_error(blocks: Floats, trial: _Codes) -> Floats:
    assert trial.zero_points is not None
    levels = trial.codes.astype(np.float32) - trial.zero_points[..., None]
    error: Floats = np.square(levels * trial.scales[..., None] - blocks).sum(axis=-1)
    return error


def _codes(blocks: Floats, scales: Floats, zeros: Floats | np.float32, most: int) -> Bytes:
    codes = np.clip(np.rint(blocks / scales[..., None] + zeros), 0, most)
    return np.asarray(codes, np.uint8)


def _never_zero(scales: Floats) -> Floats:
    """A block of equal weights has no range; any scale represents it."""
    return np.where(scales == 0, np.float32(1), scales)


def _pack(codes: Bytes) -> Bytes:
    """Two 4-bit codes into a byte along the last axis, the first into the low half."""
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))


def _unpack(packed: Bytes) -> Bytes:
    halves = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
    return halves.reshape(*packed.shape[:-1], -1)


_METHODS: Mapping[Method, Callable[[Floats], _Codes]] = MappingProxyType(
    {
        Method.SYMMETRIC_8: _symmetric_8,
        Method.ZERO_POINT_4: _zero_point_4,
        Method.OFFSET_4: _offset_4,
    }
)
