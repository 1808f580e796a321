"""Sampling parameters, and the distribution that they make of a model's logits.

Turns one row of logits into the tokens that may be sampled and their log-probabilities. Knows
nothing of noise, drafts or positions: choosing a token is the business of `acceptance`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outrider_common.errors import InvalidSamplingError, ModelFileError

MAX_SEED: Final = 2**64 - 1

Logits = NDArray[np.floating[Any]]
"""One row of logits, float32 or float64, of shape [vocab]."""

Ids = NDArray[np.int64]
"""Token ids, of shape [n]."""

Floats = NDArray[np.float64]
"""Probabilities or their logarithms, of shape [n]."""

_NUCLEUS_SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the target chooses its tokens. The defaults are greedy decoding.

    Attributes:
        temperature: divides the logits; 0 is greedy decoding.
        top_k: only the k most probable tokens may be sampled; 0 is no limit.
        top_p: only the smallest set of most probable tokens whose mass reaches this may be sampled.
        min_p: only tokens at least this fraction as probable as the best may be sampled.
        repetition_penalty: divides positive and multiplies negative logits of tokens that occur in
            the prompt or the output; 1 is none (Keskar et al. 2019, arXiv:1909.05858, section 4.1).
        presence_penalty: subtracted from the logits of tokens that occur in the output.
        frequency_penalty: subtracted once for every occurrence in the output.
        seed: keys the noise; the same seed gives the same text.

    Raises:
        InvalidSamplingError: a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require_number("temperature", self.temperature, self.temperature >= 0, "at least 0")
        _require_integer("top_k", self.top_k, self.top_k >= 0, "at least 0 (0: no limit)")
        _require_number("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _require_number("min_p", self.min_p, 0 <= self.min_p < 1, "at least 0 and below 1")
        _require_number(
            "repetition_penalty", self.repetition_penalty, self.repetition_penalty > 0, "above 0"
        )
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require_number(name, value, -2 <= value <= 2, "between -2 and 2")
        _require_integer("seed", self.seed, 0 <= self.seed <= MAX_SEED, "between 0 and 2**64 - 1")

    @property
    def is_greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0

    @property
    def has_penalties(self) -> bool:
        """Whether the distribution depends on tokens that have occurred."""
        return (
            self.repetition_penalty != 1
            or self.presence_penalty != 0
            or self.frequency_penalty != 0
        )


def _require_number(name: str, value: float, is_allowed: bool, allowed: str) -> None:
    if not (is_allowed and math.isfinite(value)):
        raise InvalidSamplingError(f"{name} is {value!r}; use a finite number {allowed}.")


def _require_integer(name: str, value: int, is_allowed: bool, allowed: str) -> None:
    if not (is_allowed and isinstance(value, int)) or isinstance(value, bool):
        raise InvalidSamplingError(f"{name} is {value!r}; use a whole number {allowed}.")


@dataclass(frozen=True, slots=True)
class Distribution:
    """The tokens that may be sampled, and how likely each is.

    Compact on purpose: noise is needed for these tokens only.

    Attributes:
        token_ids: the tokens with a probability above zero, ascending, [n] with n >= 1.
        log_weights: the logarithms of their probabilities up to a common constant, [n]: the
            largest is 0, or by rounding next to it, so that sampling needs no normaliser.
    """

    token_ids: Ids
    log_weights: Floats

    def log_probabilities(self) -> Floats:
        """The normalised log-probabilities of `token_ids`, [n]."""
        return self.log_weights - math.log(np.exp(self.log_weights).sum())

    def probabilities(self) -> Floats:
        """The probabilities of `token_ids`, [n]; they sum to 1."""
        weights: Floats = np.exp(self.log_weights)
        weights /= weights.sum()
        return weights

    def find(self, token: int) -> int | None:
        """The index of a token in `token_ids`, or None where it cannot be sampled."""
        index = int(np.searchsorted(self.token_ids, token))
        is_there = index < len(self.token_ids) and self.token_ids[index] == token
        return index if is_there else None


def distribution(
    logits: Logits,
    params: SamplingParams,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
) -> Distribution:
    """The distribution from which the next token is sampled.

    Order: penalties, temperature, top-k, top-p on what top-k left, min-p on what top-p left. Top-k
    ranks logits (a temperature keeps their order), top-p ranks probabilities; of equal ones the
    lower token id comes first. Greedy parameters give all mass to the best token.

    Args:
        logits: the model's logits, [vocab].
        params: the sampling parameters; the seed is not used.
        prompt_tokens: the prompt, for the repetition penalty.
        output_tokens: everything after the prompt, for all penalties.

    Raises:
        ModelFileError: the logits hold NaN or plus infinity, or nothing else than minus infinity.
    """
    if params.has_penalties:
        logits = penalise(logits, params, prompt_tokens, output_tokens)
    best = best_token(logits)
    if params.is_greedy:
        return Distribution(np.array([best], dtype=np.int64), np.zeros(1))
    token_ids = _top_k(logits, params.top_k)
    values = logits if len(token_ids) == len(logits) else logits[token_ids]
    log_weights = _scale(values, logits[best], params.temperature)
    if params.top_p < 1:
        kept = _nucleus(np.exp(log_weights), params.top_p)
        token_ids, log_weights = token_ids[kept], log_weights[kept]
    likely = log_weights >= _lowest_log_weight(params.min_p)
    if likely.all():
        return Distribution(token_ids, log_weights)
    return Distribution(token_ids[likely], log_weights[likely])


def log_probabilities(
    logits: Logits,
    params: SamplingParams,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
) -> Floats:
    """`distribution` over the whole vocabulary: [vocab], -inf for what may not be sampled."""
    sampled = distribution(logits, params, prompt_tokens, output_tokens)
    dense = np.full(len(logits), -np.inf)
    dense[sampled.token_ids] = sampled.log_probabilities()
    return dense


def best_token(logits: Logits) -> int:
    """The token with the largest logit; of equal ones the lowest id.

    Raises:
        ModelFileError: there is no such token, for the logits hold NaN, plus infinity, or nothing
            else than minus infinity.
    """
    best = int(logits.argmax())  # the first NaN, where there is one
    if not math.isfinite(logits[best]):
        raise ModelFileError(
            f"The model's logit of token {best} is {logits[best]}; "
            "check the weights of the model and the precision that it runs in."
        )
    return best


def penalise(
    logits: Logits,
    params: SamplingParams,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
) -> Logits:
    """Logits after the repetition, presence and frequency penalties, in this order; a copy.

    Repetition counts prompt and output (Keskar et al. 2019); presence and frequency count the
    output only, as in the OpenAI API. Tokens without a logit are passed over: a drafter's
    vocabulary may be smaller than the target's. Computed in float64, rounded once.
    """
    output, counts = _count(output_tokens, len(logits))
    prompt, _ = _count(prompt_tokens, len(logits))
    seen = np.union1d(prompt, output)
    values = logits[seen].astype(np.float64)
    penalty = params.repetition_penalty
    values = np.where(values > 0, values / penalty, values * penalty)
    in_output = np.searchsorted(seen, output)
    values[in_output] -= params.frequency_penalty * counts + params.presence_penalty
    penalised = logits.copy()
    penalised[seen] = values
    return penalised


def _count(tokens: Sequence[int], vocab_size: int) -> tuple[Ids, Ids]:
    """The distinct tokens below `vocab_size`, and how often each occurs."""
    found, counts = np.unique(np.asarray(tokens, dtype=np.int64), return_counts=True)
    known = found < vocab_size
    return found[known], counts[known]


def _scale(logits: Logits, best: float, temperature: float) -> Floats:
    """Log-weights (logit - best) / temperature; the temperature may be tiny."""
    scaled = logits.astype(np.float64)
    scaled -= best
    with np.errstate(over="ignore"):
        scaled /= temperature
    return scaled


def _lowest_log_weight(min_p: float) -> float:
    """The log-weight below which min-p drops a token; without min-p, weights of zero go."""
    return math.log(min_p) if min_p > 0 else -np.finfo(np.float64).max


def _top_k(logits: Logits, k: int) -> Ids:
    """The ids of the k largest logits, ascending; k = 0 means all."""
    if not 0 < k < len(logits):
        return np.arange(len(logits), dtype=np.int64)
    kth = np.partition(logits, -k)[-k]
    above, ties = np.flatnonzero(logits > kth), np.flatnonzero(logits == kth)
    return np.sort(np.concatenate([above, ties[: k - len(above)]]))


def _nucleus(weights: Floats, top_p: float) -> Ids:
    """The indices of the smallest set of largest weights with a share of at least `top_p`.

    Only weights that may belong to it are sorted. If one is below (1 - top_p) / n of the total,
    then all from it downwards make less than 1 - top_p together, and those above it suffice.
    """
    total = weights.sum()
    floor = (1 - top_p - _NUCLEUS_SLACK) / len(weights) * total
    candidates = np.flatnonzero(weights >= floor)
    order = candidates[np.argsort(-weights[candidates], kind="stable")]
    size = np.searchsorted(np.cumsum(weights[order]), top_p * total) + 1
    return np.sort(order[:size])
