"""Which tokens a drafter guesses, best first, from one row of its logits.

The first is what the target would choose from the same logits. Knows nothing of models, caches or
trees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from outrider_common import noise
from outrider_common.noise import Purpose
from outrider_common.sampling import (
    Floats,
    Ids,
    Logits,
    SamplingParams,
    best_token,
    distribution,
    penalise,
)
from outrider_edge.draft_columns import columns_of, tokens_of

NEGLIGIBLE: Final = 1e-5
"""Tokens less likely than this share of the likeliest are not considered in sampled mode.

The target chooses one of them in 0.4 of 100 cases (SmolLM2-135M at temperature 1), and the noise of
all tokens would cost a tenth of a draft step.
"""


@dataclass(frozen=True, slots=True)
class Guesses:
    """What may come next at one place, best first. Empty: the drafter cannot say.

    Attributes:
        tokens: distinct ids. The first is the drafter's guess, the others are its runners-up: in
            sampled mode they follow it in the order of log p + noise, which all nodes at this
            position share.
        probabilities: of each under the softmax of the drafter's own logits.
    """

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()


class Ranker:
    """Ranks the guesses of one generation. Not for several threads at once.

    Holds memory for one row of logits: fresh memory for each costs more than the arithmetic.

    Args:
        sampling: how the target chooses.
        num_logits: how long a row of logits is.
        token_ids: of which tokens they are, ascending; None: the i-th of token i.
    """

    def __init__(
        self, sampling: SamplingParams, num_logits: int, token_ids: Ids | None = None
    ) -> None:
        self._sampling = sampling
        self._token_ids = token_ids
        self._plain = replace(
            sampling, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0
        )
        self._weights = np.empty(num_logits, np.float32)

    def rank(
        self,
        logits: Logits,
        position: int,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
        count: int,
    ) -> Guesses:
        """The best guesses for a position.

        Greedily those with the largest logits after penalties. With a temperature those with the
        largest log p + Gumbel(seed, position): the first is the target's choice if p is the
        target's distribution (arXiv:2408.07978), and the others are what it would choose were the
        earlier ones not there. Tokens below `NEGLIGIBLE` are passed over.

        Args:
            logits: after all tokens before `position`, [num_logits].
            position: where the token will stand, counted from the start of the prompt.
            prompt_tokens: the prompt; used by penalties only.
            output_tokens: the tokens after it; used by penalties only.
            count: how many guesses are wanted at most; with few possible tokens there are fewer.

        Raises:
            ModelFileError: the logits are not usable.
        """
        scores = logits
        if self._sampling.has_penalties:
            seen = (columns_of(t, self._token_ids) for t in (prompt_tokens, output_tokens))
            scores = penalise(logits, self._sampling, *seen)
        best = best_token(scores)
        if self._sampling.is_greedy:
            columns = [best] if count == 1 else self._largest(scores, count)
        else:
            columns = self._sampled(scores, float(scores[best]), position, count)
        tokens = tokens_of(np.array(columns, np.int64), self._token_ids).tolist()
        return Guesses(tuple(tokens), self._probabilities(logits, columns))

    def _largest(self, scores: Logits, count: int) -> list[int]:
        """The columns of the largest scores, falling, the lowest of equal ones first.

        For few of many this is faster than any partition.
        """
        left = self._weights
        np.copyto(left, scores)
        found: list[int] = []
        for _ in range(min(count, len(left))):
            column = int(left.argmax())
            if left[column] == -np.inf:
                break
            found.append(column)
            left[column] = -np.inf
        return found

    def _sampled(self, scores: Logits, best: float, position: int, count: int) -> list[int]:
        near = np.flatnonzero(scores >= best + self._plain.temperature * math.log(NEGLIGIBLE))
        kept = distribution(scores[near], self._plain, (), ())
        columns = near[kept.token_ids]
        tokens = tokens_of(columns, self._token_ids)
        uniforms = noise.uniform(np, self._plain.seed, Purpose.TOKEN, position, tokens)
        return [int(columns[i]) for i in _noisiest(kept.log_weights, uniforms, count)]

    def _probabilities(self, logits: Logits, columns: Sequence[int]) -> tuple[float, ...]:
        """The probabilities of some columns under the softmax of the logits."""
        weights = self._weights
        np.subtract(logits, logits.max(), out=weights)
        np.exp(weights, out=weights)
        total = float(weights.sum())
        return tuple(float(weights[column]) / total for column in columns)


def _noisiest(log_weights: Floats, uniforms: Floats, count: int) -> Ids:
    """The indices of the largest log_weights + gumbel(uniforms), falling.

    The logarithms are taken only where a bound does not already exclude a token.
    """
    candidates = np.arange(len(log_weights))
    if count < len(log_weights):
        bounds = log_weights + noise.gumbel_bound(np, uniforms)
        likely = np.argpartition(bounds, -count)[-count:]
        reached = (log_weights[likely] + noise.gumbel(np, uniforms[likely])).min()
        candidates = np.flatnonzero(bounds >= reached)
    scores = log_weights[candidates] + noise.gumbel(np, uniforms[candidates])
    order: Ids = candidates[np.argsort(-scores, kind="stable")[:count]]
    return order
