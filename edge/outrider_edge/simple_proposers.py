"""Proposers without a model: one that says nothing and one that talks nonsense.

`none` is for devices too thin to draft. `garbage` drafts random trees on purpose: for tests of
exactness and as a chaos tool. Neither knows anything of the text.
"""

import random
from collections.abc import Sequence

from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask

_COPY_PROBABILITY = 0.3
_TWIN_PROBABILITY = 0.1


class NoneProposer:
    """Never has anything to say."""

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """Empty drafts."""
        return [Draft()] * len(paths)


class NoneFactory:
    """Makes proposers that draft nothing."""

    name = "none"

    def start(self, task: DraftingTask) -> NoneProposer:
        """A proposer that drafts nothing."""
        return NoneProposer()


class GarbageProposer:
    """Drafts random trees: chains, bushes, stars, twins among siblings, sometimes nothing.

    Some tokens are copied from the context so that a few guesses are right. The same calls in the
    same order give the same drafts.
    """

    def __init__(self, task: DraftingTask, seed: int) -> None:
        self._vocab_size = task.vocab_size
        self._random = random.Random(seed)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """Random trees of up to `max_depth` nodes."""
        return [self._tree([*text, *path], max_depth) for path in paths]

    def _tree(self, context: Sequence[int], max_tokens: int) -> Draft:
        num_tokens = self._random.randint(0, max_tokens)
        branching = self._random.random()
        tokens: list[int] = []
        parents: list[int] = []
        for i in range(num_tokens):
            if tokens and self._random.random() < _TWIN_PROBABILITY:
                twin = self._random.randrange(i)
                tokens.append(tokens[twin])
                parents.append(parents[twin])
            else:
                tokens.append(self._token(context))
                parents.append(self._parent(i, branching))
        return Draft(
            tuple(tokens), tuple(parents), tuple(self._random.random() for _ in range(num_tokens))
        )

    def _token(self, context: Sequence[int]) -> int:
        if self._random.random() < _COPY_PROBABILITY:
            return min(self._random.choice(context), self._vocab_size - 1)
        return self._random.randrange(self._vocab_size)

    def _parent(self, index: int, branching: float) -> int:
        if self._random.random() < branching:
            return self._random.randrange(CONTEXT_END, index)
        return index - 1


class GarbageFactory:
    """Makes proposers of random trees."""

    name = "garbage"

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed

    def start(self, task: DraftingTask) -> GarbageProposer:
        """A proposer whose drafts depend on the factory's seed and the order of its calls only."""
        return GarbageProposer(task, self._seed)
