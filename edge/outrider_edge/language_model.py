"""Drafting with a small language model: one level of guesses after each leaf.

Knows nothing of what is cached (`DraftCache`), of the runtime that computes the logits, or of the
target model's weights.
"""

from collections.abc import Sequence
from typing import Final

from outrider_common.sampling import Ids, Logits
from outrider_edge.draft_cache import DraftCache, DraftModel
from outrider_edge.drawn import drawn_draft
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask
from outrider_edge.ranking import Place, Ranker

WIDTH: Final = 4
"""So many guesses after each leaf: the target's token is among the first four in 96 of 100 places
(an int4 copy of SmolLM2-135M), and the session sends only those that are worth it."""


class Guesser:
    """Turns logits into guesses: what the draft model would choose under the sampling.

    With a temperature, the draft model's logits meet the same noise as the target's, so that both
    choose the same token with probability at least (1 - TV) / (1 + TV), where TV is the total
    variation distance of their distributions (arXiv:2408.07978).

    Args:
        task: what is drafted for.
        num_logits: how long a row of logits is.
        token_ids: of which tokens they are, ascending; None: the i-th of token i.
    """

    def __init__(self, task: DraftingTask, num_logits: int, token_ids: Ids | None = None) -> None:
        self._task = task
        self._token_ids = token_ids
        self._ranker = Ranker(task.sampling, num_logits, token_ids)

    def guess(
        self,
        all_logits: Sequence[Logits | None],
        text: Sequence[int],
        paths: Sequence[Sequence[int]],
    ) -> list[Draft]:
        """For each path behind a text one level of guesses, `WIDTH` wide, from its logits.

        Args:
            all_logits: after each path, [vocab]; None: nothing is guessed there.
            text: all committed tokens.
            paths: behind them.
        """
        known = [(i, logits) for i, logits in enumerate(all_logits) if logits is not None]
        places = [self._place(text, paths[i]) for i, _ in known]
        level = self._drawn if self._task.wants_draws else self._ranked
        drafts = [Draft()] * len(paths)
        for (i, _), draft in zip(known, level([row for _, row in known], places), strict=True):
            drafts[i] = draft
        return drafts

    def _ranked(self, rows: Sequence[Logits], places: Sequence[Place]) -> list[Draft]:
        return [
            Draft(guesses.tokens, (CONTEXT_END,) * len(guesses.tokens), guesses.probabilities)
            for guesses in self._ranker.rank_all(rows, places, WIDTH)
        ]

    def _drawn(self, rows: Sequence[Logits], places: Sequence[Place]) -> list[Draft]:
        return [self._draw(row, place) for row, place in zip(rows, places, strict=True)]

    def _draw(self, row: Logits, place: Place) -> Draft:
        context = place.prompt_tokens, place.output_tokens
        sampling, ids = self._task.sampling, self._token_ids
        return drawn_draft(row, sampling, place.position, *context, WIDTH, ids)

    def _place(self, text: Sequence[int], path: Sequence[int]) -> Place:
        """Where the next guess stands, with the tokens before it as far as penalties need them."""
        position = len(text) + len(path)
        if not self._task.sampling.has_penalties:
            return Place(position)
        tokens = [*text, *path]
        end = self._task.num_prompt_tokens
        return Place(position, tokens[:end], tokens[end:])


class LanguageModelProposer:
    """Drafts one level after each leaf, from one pass of the draft model.

    Args:
        task: what is drafted for.
        model: the draft model.
    """

    def __init__(self, task: DraftingTask, model: DraftModel) -> None:
        self._cache = DraftCache(model, task.vocab_size)
        self._guesser = Guesser(task, self._cache.num_logits, self._cache.token_ids)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """What may follow each leaf: one level, `WIDTH` wide. Empty where it cannot be read."""
        logits = self._cache.next_logits(text, paths)
        return self._guesser.guess(logits.at(0), text, paths)


class LanguageModelFactory:
    """Makes a `LanguageModelProposer` for each generation; they share the model's weights."""

    name = "lm"

    def __init__(self, model: DraftModel) -> None:
        self._model = model

    def start(self, task: DraftingTask) -> LanguageModelProposer:
        """A proposer with an empty cache."""
        return LanguageModelProposer(task, self._model)
