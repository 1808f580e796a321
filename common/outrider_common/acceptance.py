"""Acceptance: which token the target puts at a position, and so which draft nodes live on.

Every mode answers one question: given the target's logits and the tokens that the children of a
draft node carry, what is the next token? The caller then follows the child that carries it. Knows
nothing of trees, models or messages, and holds no state: noise is keyed by seed and position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isfinite
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike

from outrider_common import noise
from outrider_common.errors import InvalidSamplingError, ProtocolViolationError
from outrider_common.noise import Purpose
from outrider_common.sampling import (
    Distribution,
    Floats,
    Ids,
    Logits,
    SamplingParams,
    best_token,
    distribution,
)

QUANTISED_TOTAL: Final = 2**16 - 1
"""To what the weights of a quantised distribution sum up, unless told otherwise."""

MAX_DRAFT_TOKENS: Final = 64
"""A draft distribution that travels has at most so many tokens."""

MAX_DRAFT_WEIGHT: Final = 2**8 - 1
"""The largest weight of a draft distribution that travels: a byte."""

_SUBSET_SHARE: Final = 4


class AcceptanceMode(StrEnum):
    """How the target judges drafts."""

    EXACT = "exact"
    REJECTION = "rejection"
    TYPICAL = "typical"
    RELAXED = "relaxed"

    @property
    def is_lossless(self) -> bool:
        """Whether the output has the target's own distribution."""
        return self in (AcceptanceMode.EXACT, AcceptanceMode.REJECTION)


@dataclass(frozen=True, slots=True)
class SparseDistribution:
    """A drafter's distribution over few tokens, with whole numbers for probabilities.

    What is sampled from and what is sent are the same numbers, so that quantising costs acceptance
    but never exactness.

    Attributes:
        token_ids: distinct tokens.
        weights: positive whole numbers below 2**32; a probability is weight / total.

    Raises:
        ProtocolViolationError: it is not such a distribution.
    """

    token_ids: tuple[int, ...]
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.token_ids or len(self.token_ids) != len(self.weights):
            raise ProtocolViolationError(
                f"A draft distribution has {len(self.token_ids)} tokens and {len(self.weights)} "
                "weights; send one weight for each token, and at least one."
            )
        if len(set(self.token_ids)) < len(self.token_ids) or min(self.token_ids) < 0:
            raise ProtocolViolationError(
                f"A draft distribution names the tokens {self.token_ids}; "
                "send distinct token ids that are not negative."
            )
        if not all(0 < weight < 2**32 for weight in self.weights):
            raise ProtocolViolationError(
                f"A draft distribution has the weights {self.weights}; "
                "send whole numbers above 0 and below 2**32."
            )

    @classmethod
    def quantise(
        cls, token_ids: Sequence[int], probabilities: ArrayLike, total: int = QUANTISED_TOTAL
    ) -> "SparseDistribution":
        """The nearest distribution with whole weights, by largest remainders.

        Tokens whose weight would be zero are left out.

        Args:
            token_ids: distinct tokens, [n].
            probabilities: [n], not negative, with a positive sum; need not be normalised.
            total: to what the weights sum up: 255 or 65535, say.
        """
        shares = np.asarray(probabilities, dtype=np.float64)
        shares = shares / shares.sum() * total
        weights = np.floor(shares).astype(np.int64)
        largest_remainders = np.argsort(weights - shares, kind="stable")
        weights[largest_remainders[: total - weights.sum()]] += 1
        kept = np.flatnonzero(weights)
        return cls(tuple(token_ids[i] for i in kept.tolist()), tuple(weights[kept].tolist()))

    def probabilities(self) -> Floats:
        """The probabilities of `token_ids`, [n]; they sum to 1."""
        weights: Floats = np.array(self.weights, dtype=np.float64)
        weights /= weights.sum()
        return weights

    @property
    def fits_the_wire(self) -> bool:
        """Whether it can be sent: few tokens, and weights of one byte."""
        return len(self.token_ids) <= MAX_DRAFT_TOKENS and max(self.weights) <= MAX_DRAFT_WEIGHT

    def draw(self, seed: int, position: int, count: int) -> tuple[int, ...]:
        """Up to `count` different tokens, drawn one after the other without replacement.

        The largest of log q + Gumbel, in falling order, are such draws (Vieira 2014; Kool et al.
        2019, arXiv:1903.06059, section 3). A drafter in `rejection` mode makes children of them,
        in this order. The noise is that of `exact_token`.
        """
        ids = np.array(self.token_ids, dtype=np.int64)
        uniforms = noise.uniform(np, seed, Purpose.TOKEN, position, ids)
        keys = np.log(self.weights) + noise.gumbel(np, uniforms)
        return tuple(ids[np.argsort(-keys, kind="stable")[:count]].tolist())


class AcceptanceRule(Protocol):
    """Chooses the target's token at one point of the tree."""

    @property
    def params(self) -> SamplingParams:
        """The sampling parameters of the generation."""
        ...

    def choose(
        self,
        logits: Logits,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        """The token at `position`; a child that carries it is accepted.

        Args:
            logits: the target's logits after all tokens before `position`, [vocab].
            position: where the token will stand, counted from the start of the prompt.
            children: the tokens of the draft nodes at `position`, in the order of their ids.
            draft: the distribution from which the children were drawn; only `rejection` needs it.
            prompt_tokens: the prompt.
            output_tokens: the tokens after the prompt and before `position`.

        Raises:
            ModelFileError: the logits are not usable.
        """
        ...


def exact_token(
    logits: Logits,
    params: SamplingParams,
    position: int,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
) -> int:
    """The token of `exact` mode: argmax(log p + Gumbel(seed, position)); the lowest id on ties.

    Without a temperature it is the argmax of the penalised logits. The target decodes with it. A
    drafter that calls it on its own logits agrees with the target with a probability of at least
    (1 - TV) / (1 + TV) (Daliri et al. 2024, arXiv:2408.07978).

    Args:
        logits: a model's logits after all tokens before `position`, [vocab].
        params: the sampling parameters.
        position: where the token will stand, counted from the start of the prompt.
        prompt_tokens: the prompt; used by penalties only.
        output_tokens: the tokens after it; used by penalties only.

    Raises:
        ModelFileError: the logits are not usable.
    """
    if params.is_greedy and not params.has_penalties:
        return best_token(logits)
    target = distribution(logits, params, prompt_tokens, output_tokens)
    return _sample(target, params.seed, Purpose.TOKEN, position, len(logits))


@dataclass(frozen=True, slots=True)
class ExactRule:
    """`exact`: the token does not depend on the drafts at all."""

    params: SamplingParams

    def choose(
        self,
        logits: Logits,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        """See `AcceptanceRule.choose`."""
        return exact_token(logits, self.params, position, prompt_tokens, output_tokens)


@dataclass(frozen=True, slots=True)
class RejectionRule:
    """`rejection`: the token has the target's distribution, whatever the drafter's.

    The test of Leviathan et al. 2023 (arXiv:2211.17192, appendix A.1) for one child after the
    other: accept child x with probability min(1, p(x) / q(x)), else go on with the residual
    p <- norm(max(p - q, 0)). The children are drawn without replacement, so after each of them
    q <- norm(q without x) (recursive rejection sampling, Jeon et al. 2024, arXiv:2402.14160,
    theorem 3.1; SpecInfer, arXiv:2305.09781, has the same with independent draws). Whatever was
    drawn and rejected before, every step yields exactly its p, by induction from the last.

    It is lossless for children that were drawn from `draft` as `SparseDistribution.draw` does, in
    that order. Which nodes are sent may depend on the tokens of earlier siblings, but not on a
    node's own. Tokens that `draft` could not have drawn are passed over.

    Where nothing was drawn, the token is that of `exact` mode. Its noise is that of the draws, so
    that a draw which comes too late agrees with it as often as can be. That is independent of the
    noise of the test and the residual, so either way the token has the target's distribution.
    """

    params: SamplingParams

    def choose(
        self,
        logits: Logits,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        """See `AcceptanceRule.choose`."""
        if draft is None:
            return exact_token(logits, self.params, position, prompt_tokens, output_tokens)
        target = distribution(logits, self.params, prompt_tokens, output_tokens)
        p = target.probabilities()
        for child, q_child, q in _draws(children, draft, target.token_ids):
            index = target.find(child)
            p_child = 0.0 if index is None else p[index]
            if self._uniform(position, child) * q_child < p_child:
                return child
            p = _residual(p, q)
        rest = _from_probabilities(target.token_ids, p)
        return _sample(rest, self.params.seed, Purpose.RESIDUAL, position, len(logits))

    def _uniform(self, position: int, child: int) -> float:
        return noise.uniform_scalar(self.params.seed, Purpose.ACCEPT, position, child)


@dataclass(frozen=True, slots=True)
class TypicalThresholds:
    """When a token is typical: p > min(epsilon, delta * exp(-H(p))).

    The defaults are those of Medusa (Cai et al. 2024, arXiv:2401.10774, section 3.3.1 and code).

    Attributes:
        epsilon: the probability that always suffices, above 0 and at most 1.
        delta: the share of exp(-entropy) that suffices, above 0 and at most 1.

    Raises:
        InvalidSamplingError: a value is out of range.
    """

    epsilon: float = 0.09
    delta: float = 0.3

    def __post_init__(self) -> None:
        for name, value in (("epsilon", self.epsilon), ("delta", self.delta)):
            if not 0 < value <= 1:
                raise InvalidSamplingError(
                    f"{name} of typical acceptance is {value!r}; "
                    "use a number above 0 and at most 1."
                )


@dataclass(frozen=True, slots=True)
class TypicalRule:
    """`typical`: the most probable child that is typical of the target, else the exact token.

    Lossy. Greedy requests are judged by the distribution at temperature 1.
    """

    params: SamplingParams
    thresholds: TypicalThresholds = TypicalThresholds()

    def choose(
        self,
        logits: Logits,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        """See `AcceptanceRule.choose`."""
        if children:
            judge = distribution(logits, _judging(self.params), prompt_tokens, output_tokens)
            child, log_weight = _best_child(judge, children)
            if log_weight > self._threshold(judge):
                return child
        return exact_token(logits, self.params, position, prompt_tokens, output_tokens)

    def _threshold(self, judge: Distribution) -> float:
        """The threshold as a log-weight of `judge`."""
        log_p = judge.log_probabilities()
        entropy = -float(np.exp(log_p) @ log_p)
        limit = min(self.thresholds.epsilon, self.thresholds.delta * np.exp(-entropy))
        return float(np.log(limit) - log_p.max())


@dataclass(frozen=True, slots=True)
class RelaxedMargins:
    """When a token is close to the target's best.

    By default one of its three best that is at least half as probable as the best.

    Attributes:
        beta: fewer than this many tokens are more probable; at least 1.
        tau: the most by which its log-probability lies below the best one's, in nats; at least 0.

    Raises:
        InvalidSamplingError: a value is out of range.
    """

    beta: int = 3
    tau: float = 0.7

    def __post_init__(self) -> None:
        if self.beta < 1:
            raise InvalidSamplingError(
                f"beta of relaxed acceptance is {self.beta!r}; use a whole number of at least 1."
            )
        if not (self.tau >= 0 and isfinite(self.tau)):
            raise InvalidSamplingError(
                f"tau of relaxed acceptance is {self.tau!r}; use a finite number of at least 0."
            )


@dataclass(frozen=True, slots=True)
class RelaxedRule:
    """`relaxed`: the most probable child that is close to the target's best, else the exact token.

    Lossy. Greedy requests are judged by the distribution at temperature 1.
    """

    params: SamplingParams
    margins: RelaxedMargins = RelaxedMargins()

    def choose(
        self,
        logits: Logits,
        position: int,
        children: Sequence[int],
        draft: SparseDistribution | None,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
    ) -> int:
        """See `AcceptanceRule.choose`."""
        if children:
            judge = distribution(logits, _judging(self.params), prompt_tokens, output_tokens)
            child, log_weight = _best_child(judge, children)
            num_better = int((judge.log_weights > log_weight).sum())
            if log_weight >= -self.margins.tau and num_better < self.margins.beta:
                return child
        return exact_token(logits, self.params, position, prompt_tokens, output_tokens)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How the tokens of one generation are accepted.

    Attributes:
        mode: the rule.
        typical: its thresholds; read in the mode `typical` only.
        relaxed: its margins; read in the mode `relaxed` only.
    """

    mode: AcceptanceMode = AcceptanceMode.EXACT
    typical: TypicalThresholds = TypicalThresholds()
    relaxed: RelaxedMargins = RelaxedMargins()

    def rule(self, params: SamplingParams) -> AcceptanceRule:
        """The rule for a generation with these sampling parameters."""
        return acceptance_rule(self.mode, params, self.typical, self.relaxed)


def acceptance_rule(
    mode: AcceptanceMode,
    params: SamplingParams,
    typical: TypicalThresholds = TypicalThresholds(),
    relaxed: RelaxedMargins = RelaxedMargins(),
) -> AcceptanceRule:
    """The rule of a mode for one generation."""
    match mode:
        case AcceptanceMode.EXACT:
            return ExactRule(params)
        case AcceptanceMode.REJECTION:
            return RejectionRule(params)
        case AcceptanceMode.TYPICAL:
            return TypicalRule(params, typical)
        case AcceptanceMode.RELAXED:
            return RelaxedRule(params, relaxed)


def _sample(
    source: Distribution, seed: int, purpose: Purpose, position: int, vocab_size: int
) -> int:
    """argmax(log weight + Gumbel) over a distribution; the lowest id on ties."""
    ids = source.token_ids
    if len(ids) == 1:
        return int(ids[0])
    if len(ids) * _SUBSET_SHARE < vocab_size:
        uniforms = noise.uniform(np, seed, purpose, position, ids)
    else:
        uniforms = noise.uniform_vocabulary(np, seed, purpose, position, vocab_size)
        uniforms = uniforms if len(ids) == vocab_size else uniforms[ids]
    return int(ids[_argmax_with_gumbel(source.log_weights, uniforms)])


def _argmax_with_gumbel(log_weights: Floats, uniforms: Floats) -> int:
    """The index of the largest log_weights + gumbel(uniforms), the first on ties.

    The logarithms are taken only where a bound does not already exclude a token.
    """
    bounds = log_weights + noise.gumbel_bound(np, uniforms)
    likely = bounds.argmax(keepdims=True)
    reached = log_weights[likely] + noise.gumbel(np, uniforms[likely])
    candidates = np.flatnonzero(bounds >= reached)
    scores = log_weights[candidates] + noise.gumbel(np, uniforms[candidates])
    return int(candidates[scores.argmax()])


def _draws(
    children: Sequence[int], draft: SparseDistribution, token_ids: Ids
) -> Iterator[tuple[int, float, Floats]]:
    """Each child that was drawn from `draft`, with the distribution that it was drawn from.

    Earlier children keep their share of q: their residual is zero already, whatever is taken off.

    Yields:
        The child, its probability, and the probabilities of `token_ids`, [n].
    """
    weights = dict(zip(draft.token_ids, draft.weights, strict=True))
    q = _on(token_ids, draft)
    for child in children:
        total = sum(weights.values())
        weight = weights.pop(child, 0)
        if weight:
            yield child, weight / total, q / total


def _on(token_ids: Ids, draft: SparseDistribution) -> Floats:
    """The draft's weights of the ascending `token_ids`, [n]; zero for tokens that it lacks."""
    weights = np.zeros(len(token_ids))
    drafted = np.array(draft.token_ids, dtype=np.int64)
    indices = np.minimum(np.searchsorted(token_ids, drafted), len(token_ids) - 1)
    known = token_ids[indices] == drafted
    weights[indices[known]] = np.array(draft.weights, dtype=np.float64)[known]
    return weights


def _residual(p: Floats, q: Floats) -> Floats:
    """norm(max(p - q, 0)); p itself where nothing is left, which only rounding can bring about."""
    residual = np.maximum(p - q, 0)
    mass = residual.sum()
    return residual / mass if mass > 0 else p


def _from_probabilities(token_ids: Ids, probabilities: Floats) -> Distribution:
    """The distribution over those tokens whose probability is above zero."""
    kept = np.flatnonzero(probabilities)
    log_p = np.log(probabilities[kept])
    return Distribution(token_ids[kept], log_p - log_p.max())


def _judging(params: SamplingParams) -> SamplingParams:
    return replace(params, temperature=1.0) if params.is_greedy else params


def _best_child(judge: Distribution, children: Sequence[int]) -> tuple[int, float]:
    """The most probable child, the first of equals, and its log-weight (-inf: impossible)."""
    indices = [judge.find(child) for child in children]
    log_weights = [-np.inf if i is None else float(judge.log_weights[i]) for i in indices]
    best = int(np.argmax(log_weights))
    return children[best], log_weights[best]
