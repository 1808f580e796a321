"""Noise keyed by (seed, purpose, position, token id): the same bits on every machine.

Philox4x32-10 and a logarithm of our own, written once over an array module `xp` that is NumPy or
PyTorch. Knows nothing of sampling. Holds no state: any number can be computed without the others.

Why the bits agree: the words come from 64-bit integers that wrap alike everywhere, and the floats
from single IEEE 754 operations (+, -, *, / of two arrays), which every processor rounds alike.
Library logarithms differ between libm, SLEEF and CUDA in the last place, so none is used. Array
operations that run one at a time are never contracted into fused multiply-adds; do not compile
these functions into one kernel (`torch.compile`), which may contract them.
"""

import enum
import math
from typing import Any, Final, TypeAlias

ArrayModule: TypeAlias = Any
"""`numpy` or `torch`, passed in: the core imports no model runtime."""

Array: TypeAlias = Any
"""An array of that module."""

WORDS_PER_BLOCK: Final = 4
NUM_ROUNDS: Final = 10

MASK_32: Final = 0xFFFFFFFF
MULTIPLIERS: Final = (0xD2511F53, 0xCD9E8D57)
WEYL_INCREMENTS: Final = (0x9E3779B9, 0xBB67AE85)
LN_2: Final = math.log(2)
SQRT_HALF_BITS: Final = 0x3FE6A09E667F3BCD  # the float64 next to sqrt(1/2), as an integer
MANTISSA_BITS: Final = 52
MANTISSA_MASK: Final = 2**MANTISSA_BITS - 1
BOUND_OF_ONE: Final = 1023 * LN_2 + 1e-9  # with room for what all steps round
ATANH_COEFFICIENTS: Final = tuple(2 / (2 * k + 1) for k in range(8))


class Purpose(enum.IntEnum):
    """What noise is for. Different purposes are independent of each other."""

    TOKEN = 0
    """The Gumbel noise that chooses tokens in `exact` mode, at the target and at the drafter, and
    with which the drafter draws in `rejection` mode."""
    ACCEPT = 1
    """The uniform that decides whether a drafted token is accepted in `rejection` mode."""
    RESIDUAL = 2
    """The Gumbel noise that chooses the correction in `rejection` mode."""


def philox(counter: tuple[Array, ...], key: tuple[int, int]) -> tuple[Array, ...]:
    """Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        counter: four words below 2**32: int64 arrays of shapes that broadcast, or Python ints.
        key: two words below 2**32.

    Returns:
        Four words below 2**32, of the broadcast shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(NUM_ROUNDS):
        # The products wrap around 2**64, which leaves their two words right. c1 and c3 keep a
        # stray upper half until the next round's exclusive or, which is masked.
        product_0, product_1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0 = ((product_1 >> 32) ^ c1 ^ k0) & MASK_32
        c2 = ((product_0 >> 32) ^ c3 ^ k1) & MASK_32
        c1, c3 = product_1, product_0
        k0, k1 = (k0 + WEYL_INCREMENTS[0]) & MASK_32, (k1 + WEYL_INCREMENTS[1]) & MASK_32
    return c0, c1 & MASK_32, c2, c3 & MASK_32


def uniform(xp: ArrayModule, seed: int, purpose: Purpose, position: int, token_ids: Array) -> Array:
    """Uniform noise in (0, 1), one number for each token id.

    A number is (k + 1/2) / 2**32 of a 32-bit word k, so that neither 0 nor 1 occurs. The word is
    number `token_id % 4` of the Philox block whose counter is (token_id // 4, position, purpose)
    and whose key is the seed.

    Args:
        xp: `numpy` or `torch`.
        seed: the session's seed, in [0, 2**64).
        purpose: what the noise is for.
        position: the position of the token that is chosen, in [0, 2**64).
        token_ids: int64, shape [n], ids in [0, 2**34); the result lies on their device.

    Returns:
        float64, shape [n].
    """
    words = _blocks(xp, seed, purpose, position, token_ids >> 2)
    word_of_block = token_ids & (WORDS_PER_BLOCK - 1)
    chosen = words[0]
    for number in range(1, WORDS_PER_BLOCK):
        chosen = xp.where(word_of_block == number, words[number], chosen)
    return _to_uniform(xp, chosen)


def uniform_vocabulary(
    xp: ArrayModule,
    seed: int,
    purpose: Purpose,
    position: int,
    vocab_size: int,
    device: object = None,
) -> Array:
    """The uniform noise of the token ids 0..vocab_size-1: a quarter of the work of `uniform`.

    Args:
        xp: `numpy` or `torch`.
        seed: as in `uniform`.
        purpose: as in `uniform`.
        position: as in `uniform`.
        vocab_size: how many numbers.
        device: the torch device of the result; None is the default one.

    Returns:
        float64, shape [vocab_size].
    """
    num_blocks = -(-vocab_size // WORDS_PER_BLOCK)
    where = {} if device is None else {"device": device}
    blocks = xp.arange(num_blocks, dtype=xp.int64, **where)
    words = xp.stack(_blocks(xp, seed, purpose, position, blocks), -1)  # [num_blocks, 4]
    return _to_uniform(xp, words.reshape(-1)[:vocab_size])


def uniform_scalar(seed: int, purpose: Purpose, position: int, index: int) -> float:
    """The one number that `uniform` gives for the token id `index`, without any array module."""
    counter = (index >> 2, *_split(position), int(purpose))
    word = philox(counter, _split(seed))[index & (WORDS_PER_BLOCK - 1)]
    return float((word + 0.5) / 2**32)


def gumbel(xp: ArrayModule, uniforms: Array) -> Array:
    """Standard Gumbel noise -log(-log(u)) of uniform noise u: float64 of the same shape.

    With 32-bit uniforms it lies in (-3.14, 22.88): a token that is e**-26 times as probable as
    another is never chosen before it.
    """
    return -log(xp, -log(xp, uniforms))


def gumbel_bound(xp: ArrayModule, uniforms: Array) -> Array:
    """Numbers that `gumbel` never exceeds, at a fifth of its cost: float64 of the same shape.

    -log(-log u) <= -log(1 - u), and log2 x >= bits(x) / 2**52 - 1023 for the bits of a float64 x
    read as an integer: a chord of the concave logarithm on every [2**e, 2**(e + 1)]. The bound is
    above -log(1 - u) by less than 0.06.
    """
    bits = xp.asarray((1.0 - uniforms).view(xp.int64), dtype=xp.float64)
    bits *= -LN_2 * 2.0**-MANTISSA_BITS
    bits += BOUND_OF_ONE
    return bits


def log(xp: ArrayModule, x: Array) -> Array:
    """Natural logarithm with the same bits everywhere, to a relative error below 1e-13.

    Writes x = 2**e * m with m in [sqrt(1/2), sqrt(2)) by integer operations on the bits, then
    log x = e log 2 + 2 artanh(s) with s = (m - 1) / (m + 1), |s| < 0.172, and eight terms of
    2 artanh(s) = s (2 + 2/3 s**2 + 2/5 s**4 + ...); the first left out is 4e-14 of the sum.

    Args:
        xp: `numpy` or `torch`.
        x: float64, positive, normal and finite.

    Returns:
        float64 of the same shape.
    """
    # In place where it can be: fresh memory costs as much as the arithmetic.
    shifted = x.view(xp.int64) - SQRT_HALF_BITS
    result = xp.asarray(shifted >> MANTISSA_BITS, dtype=xp.float64)  # e
    result *= LN_2
    shifted &= MANTISSA_MASK
    shifted += SQRT_HALF_BITS
    mantissa = shifted.view(xp.float64)
    s = mantissa - 1.0
    mantissa += 1.0
    s /= mantissa  # an array: CUDA kernels replace division by a scalar with multiplication
    series = _polynomial(s * s)
    series *= s
    result += series
    return result


def _polynomial(x: Array) -> Array:
    """2 + 2/3 x + 2/5 x**2 + ... by Horner's rule."""
    total = x * ATANH_COEFFICIENTS[-1]
    for coefficient in ATANH_COEFFICIENTS[-2:0:-1]:
        total += coefficient
        total *= x
    total += ATANH_COEFFICIENTS[0]
    return total


def _blocks(
    xp: ArrayModule, seed: int, purpose: Purpose, position: int, blocks: Array
) -> tuple[Array, ...]:
    """The four words of each block, each of shape [num_blocks]."""
    low, high = _split(position)
    rest = (xp.full_like(blocks[:1], word) for word in (low, high, int(purpose)))
    return philox((blocks, *rest), _split(seed))


def _split(number: int) -> tuple[int, int]:
    """The lower and upper word of a 64-bit number."""
    if not 0 <= number < 2**64:
        raise ValueError(f"{number} is not a 64-bit seed or position; use 0 to 2**64 - 1")
    return number & MASK_32, number >> 32


def _to_uniform(xp: ArrayModule, words: Array) -> Array:
    uniforms = xp.asarray(words, dtype=xp.float64)  # a copy, for words are integers
    uniforms += 0.5
    uniforms *= 2.0**-32
    return uniforms
