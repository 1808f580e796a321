"""Exact tokens on the CPU: temperature, noise and argmax in one compiled loop over the vocabulary.

The same tokens as `acceptance.exact_token`, which stays the definition: every float comes from the
same IEEE 754 operations in the same order, and nothing is contracted or reassociated. Knows
nothing of rules, batches or torch.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from outrider_cloud.compiled import compiled
from outrider_common import noise
from outrider_common.acceptance import exact_token
from outrider_common.noise import (
    ATANH_COEFFICIENTS,
    BOUND_OF_ONE,
    LN_2,
    MANTISSA_BITS,
    MANTISSA_MASK,
    NUM_ROUNDS,
    SQRT_HALF_BITS,
    WORDS_PER_BLOCK,
    Purpose,
)
from outrider_common.sampling import Floats, Logits, SamplingParams, best_token, penalise

_MASK_32: Final = np.uint64(noise.MASK_32)
_WORD_BITS: Final = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = map(np.uint64, noise.MULTIPLIERS)
_WEYL_0, _WEYL_1 = map(np.uint64, noise.WEYL_INCREMENTS)
_BOUND_SLOPE: Final = -LN_2 * 2.0**-MANTISSA_BITS
_CHUNK: Final = 256
"""Tokens whose noise is made at once: small enough for the first cache."""


def fused_exact_token(
    logits: Logits,
    params: SamplingParams,
    position: int,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
) -> int:
    """`acceptance.exact_token`, several times as fast where the whole vocabulary may be sampled.

    Args:
        logits: a model's logits after all tokens before `position`, [vocab].
        params: the sampling parameters.
        position: where the token will stand, counted from the start of the prompt.
        prompt_tokens: the prompt; used by penalties only.
        output_tokens: the tokens after it; used by penalties only.

    Raises:
        ModelFileError: the logits are not usable.
    """
    if params.is_greedy or params.top_k or params.top_p < 1:
        return exact_token(logits, params, position, prompt_tokens, output_tokens)
    if params.has_penalties:
        logits = penalise(logits, params, prompt_tokens, output_tokens)
    best = float(logits[best_token(logits)])
    lowest = math.log(params.min_p) if params.min_p > 0 else -math.inf
    noise_key = _noise_key(params.seed, position)
    return int(_argmax_with_noise(logits, best, float(params.temperature), lowest, noise_key))


def fused_gumbel(seed: int, position: int, vocab_size: int) -> Floats:
    """The Gumbel noise that is added here, [vocab_size]; for tests against `noise`."""
    noise_key = _noise_key(seed, position)
    uniforms = np.empty(-(-vocab_size // WORDS_PER_BLOCK) * WORDS_PER_BLOCK)
    _fill_with_uniforms(uniforms, 0, noise_key)
    return np.array([_gumbel(u) for u in uniforms[:vocab_size]])


def _noise_key(seed: int, position: int) -> tuple[np.uint64, ...]:
    """Seed and position as words below 2**32, lower before upper."""
    mask = int(_MASK_32)
    words = (seed & mask, seed >> 32, position & mask, position >> 32)
    return tuple(np.uint64(word) for word in words)


@compiled
def _fill_with_uniforms(uniforms: Floats, first_token: int, noise_key: Any) -> None:
    """Write `noise.uniform` of the token ids from `first_token` on; both in whole blocks."""
    purpose = np.uint64(Purpose.TOKEN.value)
    first_block = first_token // WORDS_PER_BLOCK
    for block in range(len(uniforms) // WORDS_PER_BLOCK):
        k0, k1, c1, c2 = noise_key
        c0, c3 = np.uint64(first_block + block), purpose
        for _ in range(NUM_ROUNDS):
            product_0, product_1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
            c0 = (product_1 >> _WORD_BITS) ^ c1 ^ k0
            c2 = (product_0 >> _WORD_BITS) ^ c3 ^ k1
            c1, c3 = product_1 & _MASK_32, product_0 & _MASK_32
            k0, k1 = (k0 + _WEYL_0) & _MASK_32, (k1 + _WEYL_1) & _MASK_32
        for word, value in enumerate((c0, c1, c2, c3)):
            uniforms[WORDS_PER_BLOCK * block + word] = (np.float64(value) + 0.5) * 2.0**-32


@compiled
def _log(x: Any) -> Any:
    """`noise.log`."""
    shifted = np.float64(x).view(np.int64) - SQRT_HALF_BITS
    exponent = np.float64(shifted >> MANTISSA_BITS)
    mantissa = np.int64((shifted & MANTISSA_MASK) + SQRT_HALF_BITS).view(np.float64)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    x = s * s
    series = x * ATANH_COEFFICIENTS[7]
    for k in range(6, 0, -1):
        series = (series + ATANH_COEFFICIENTS[k]) * x
    return exponent * LN_2 + (series + ATANH_COEFFICIENTS[0]) * s


@compiled
def _gumbel(uniform: Any) -> Any:
    """`noise.gumbel`."""
    return -_log(-_log(uniform))


@compiled
def _gumbel_bound(uniform: Any) -> Any:
    """`noise.gumbel_bound`."""
    return np.float64(np.float64(1.0 - uniform).view(np.int64)) * _BOUND_SLOPE + BOUND_OF_ONE


@compiled
def _argmax_with_noise(
    logits: Logits, best: float, temperature: float, lowest: float, noise_key: Any
) -> int:
    """argmax((logit - best) / temperature + Gumbel) where that quotient is at least `lowest`.

    The lowest id on ties: ids rise, and only a larger score replaces the winner so far. A token
    whose bound is below the winner's score costs no logarithm.
    """
    winner, winning_score = -1, -np.inf
    uniforms = np.empty(_CHUNK)
    for begin in range(0, len(logits), _CHUNK):
        _fill_with_uniforms(uniforms, begin, noise_key)
        for i in range(min(_CHUNK, len(logits) - begin)):
            log_weight = (np.float64(logits[begin + i]) - best) / temperature
            if log_weight >= lowest and log_weight + _gumbel_bound(uniforms[i]) >= winning_score:
                score = log_weight + _gumbel(uniforms[i])
                if score > winning_score:
                    winner, winning_score = begin + i, score
    return winner
