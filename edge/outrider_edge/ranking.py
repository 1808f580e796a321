"""Which tokens a drafter guesses, best first, from rows of its logits.

The first is what the target would choose from the same logits. Knows nothing of models, caches or
trees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from outrider_common import noise
from outrider_common.noise import WORDS_PER_BLOCK, Purpose
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
"""Tokens less likely than this share of the likeliest are not considered.

The target chooses one of them in 0.4 of 100 cases (SmolLM2-135M at temperature 1), and the noise of
all tokens would cost a tenth of a draft step.
"""

DISTURBANCE: Final = 0.55
"""How far apart, in logits, drafter and target are taken to be; the calibration corrects it.

Fitted to the choices of SmolLM2-135M beside those of its int4 copy: the best at temperature 1 is
0.6, greedily 0.5. With it, the mean negative log-likelihood of the chance that the first guess is
right is 0.31 greedily and 0.49 at temperature 1, against 0.49 and 1.78 with the drafter's plain
softmax, and 0.45 and 0.62 if only the mean is known (2,072 and 2,150 tokens of answers to
Spec-Bench prompts).
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a guess will stand.

    Attributes:
        position: counted from the start of the prompt.
        prompt_tokens: the prompt; used by penalties only.
        output_tokens: the tokens after it; used by penalties only.
    """

    position: int
    prompt_tokens: Sequence[int] = ()
    output_tokens: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Guesses:
    """What may come next at one place, best first. Empty: the drafter cannot say.

    Attributes:
        tokens: distinct ids. The first is the drafter's guess, the others are its runners-up: in
            sampled mode they follow it in the order of log p + noise, which all nodes at this
            position share.
        probabilities: of each the chance that a model chooses it whose logits are like the
            drafter's but for some disturbance: softmax(score / `DISTURBANCE`) over all tokens that
            are considered, where a score is a logit after penalties, plus temperature times noise
            in sampled mode. The margin between the scores counts, not how likely a token is.
    """

    tokens: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()


class Ranker:
    """Ranks the guesses of one generation. Not for several threads at once.

    Looks at the whole vocabulary three times only: for the best token, for those that are not
    negligible beside it, and for where they are. All else is done with these, a few thousand.

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
            sampling,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            min_p=max(sampling.min_p, NEGLIGIBLE),
        )
        self._reach = -math.log(NEGLIGIBLE) * max(sampling.temperature, 1.0)
        self._is_near = np.empty(num_logits, np.bool_)

    def rank(
        self,
        logits: Logits,
        position: int,
        prompt_tokens: Sequence[int],
        output_tokens: Sequence[int],
        count: int,
    ) -> Guesses:
        """The best guesses for one place: `rank_all` of one row of logits, [num_logits]."""
        place = Place(position, prompt_tokens, output_tokens)
        return self.rank_all([logits], [place], count)[0]

    def rank_all(
        self, rows: Sequence[Logits], places: Sequence[Place], count: int
    ) -> list[Guesses]:
        """The best guesses for some places.

        Greedily those with the largest logits after penalties. With a temperature those with the
        largest log p + Gumbel(seed, position): the first is the target's choice if p is the
        target's distribution (arXiv:2408.07978), and the others are what it would choose were the
        earlier ones not there. Tokens below `NEGLIGIBLE` are passed over.

        Args:
            rows: for each place the logits after all tokens before it, [num_logits].
            places: where the guesses will stand. Those at one position share their noise.
            count: how many guesses are wanted at most; with few possible tokens there are fewer.

        Raises:
            ModelFileError: the logits are not usable.
        """
        heads = [self._head(row, place) for row, place in zip(rows, places, strict=True)]
        if not self._sampling.is_greedy:
            self._add_noise(heads, [place.position for place in places])
        sharpness = (self._sampling.temperature or 1.0) / DISTURBANCE
        return [head.guesses(count, sharpness) for head in heads]

    def _scores(self, row: Logits, place: Place) -> Logits:
        if not self._sampling.has_penalties:
            return row
        seen = (columns_of(t, self._token_ids) for t in (place.prompt_tokens, place.output_tokens))
        return penalise(row, self._sampling, *seen)

    def _head(self, row: Logits, place: Place) -> "_Head":
        """The tokens that are considered at a place."""
        scores = self._scores(row, place)
        best = scores[best_token(scores)]
        np.greater_equal(scores, best - self._reach, out=self._is_near)
        columns = self._is_near.nonzero()[0]
        logits = scores[columns]
        logits -= best
        if self._sampling.is_greedy:
            return _Head(tokens_of(columns, self._token_ids), logits)
        kept = distribution(logits, self._plain, (), ())
        return _Head(tokens_of(columns[kept.token_ids], self._token_ids), kept.log_weights)

    def _add_noise(self, heads: "Sequence[_Head]", positions: Sequence[int]) -> None:
        """Add the target's noise to all scores; few NumPy calls for all heads at a position."""
        for position in set(positions):
            here = [head for head, other in zip(heads, positions, strict=True) if other == position]
            gumbels = self._gumbel(position, np.concatenate([head.token_ids for head in here]))
            start = 0
            for head in here:
                stop = start + len(head.token_ids)
                np.add(head.scores, gumbels[start:stop], out=head.scores)
                start = stop

    def _gumbel(self, position: int, token_ids: Ids) -> Floats:
        """The target's noise of some tokens, [n].

        But for the last place of some: NumPy's logarithm is faster than the one that has the same
        bits everywhere.
        """
        key = np, self._plain.seed, Purpose.TOKEN, position
        is_few = len(token_ids) * WORDS_PER_BLOCK < len(self._is_near)
        if is_few or self._token_ids is not None:
            uniforms = noise.uniform(*key, token_ids)
        else:
            uniforms = noise.uniform_vocabulary(*key, len(self._is_near))[token_ids]
        gumbels: Floats = -np.log(-np.log(uniforms))
        return gumbels


@dataclass(frozen=True, slots=True)
class _Head:
    """The tokens that are considered at one place.

    Attributes:
        token_ids: ascending, [n].
        scores: by which they are ranked, [n]: log-weights under the sampling, and noise.
    """

    token_ids: Ids
    scores: Logits

    def guesses(self, count: int, sharpness: float) -> Guesses:
        """The tokens with the largest scores, falling; of equal ones the lowest id first.

        Overwrites the scores. For few of many, argmax is faster than any partition.

        Args:
            count: how many at most.
            sharpness: what a score is multiplied with before the softmax.
        """
        chances = np.exp((self.scores - self.scores.max()) * sharpness)
        chances /= chances.sum()
        order: list[int] = []
        for _ in range(min(count, len(self.scores))):
            index = int(self.scores.argmax())
            if self.scores[index] == -np.inf:
                break
            order.append(index)
            self.scores[index] = -np.inf
        return Guesses(tuple(self.token_ids[order].tolist()), tuple(chances[order].tolist()))
