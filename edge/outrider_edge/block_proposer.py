"""Drafting several levels after each leaf in one pass of a model that was trained on masks.

A mask is a token that stands for one that is not known yet. Below a leaf, the model was taught to
say at the k-th of a chain of masks what stands k tokens further (PARD, arXiv:2504.18583;
ParallelSpec, arXiv:2410.05589; P-EAGLE, arXiv:2602.01469). Knows nothing of what is cached.
"""

from collections.abc import Sequence

from outrider_edge.draft_cache import DraftCache, DraftModel
from outrider_edge.language_model import Guesser
from outrider_edge.proposer import CONTEXT_END, Draft, DraftingTask


class BlockProposer:
    """Drafts a comb after each leaf: a chain of first guesses, and beside each its runners-up.

    The guesses of a mask do not depend on which token was taken for the mask before it, so they
    would be the same below each of its guesses. They are put below the first alone: that is where
    they are right most often.

    Args:
        task: what is drafted for.
        model: the draft model.
        mask_token_ids: the masks, in the order in which they follow a leaf.
    """

    def __init__(
        self, task: DraftingTask, model: DraftModel, mask_token_ids: Sequence[int]
    ) -> None:
        self._cache = DraftCache(model, task.vocab_size)
        self._guesser = Guesser(task, self._cache.num_logits, self._cache.token_ids)
        self._masks = tuple(mask_token_ids)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """What may follow each leaf, as deep as there are masks and room for them, and one more.

        A draft is empty where its path cannot be read.
        """
        masks = self._masks[: max_depth - 1]
        logits = self._cache.next_logits(text, paths, masks)
        trails = [list(path) for path in paths]  # the paths, and below them the first guesses
        levels: list[list[Draft]] = []
        for depth in range(1 + len(masks)):
            levels.append(self._guesser.guess(logits.at(depth), text, trails))
            for trail, level in zip(trails, levels[-1], strict=True):
                trail += level.tokens[:1]
        return [comb(own) for own in zip(*levels, strict=True)]


class BlockFactory:
    """Makes a `BlockProposer` for each generation; they share the model's weights.

    Args:
        model: the draft model.
        mask_token_ids: its masks, see `BlockProposer`.
    """

    name = "block"

    def __init__(self, model: DraftModel, mask_token_ids: Sequence[int]) -> None:
        self._model = model
        self._mask_token_ids = tuple(mask_token_ids)

    def start(self, task: DraftingTask) -> BlockProposer:
        """A proposer with an empty cache."""
        return BlockProposer(task, self._model, self._mask_token_ids)


def comb(levels: Sequence[Draft]) -> Draft:
    """One draft of several levels: each hangs from the first guess of the one before it.

    Args:
        levels: guesses that follow one place each; after an empty one all are empty.
    """
    tokens: list[int] = []
    parents: list[int] = []
    stem = CONTEXT_END
    for level in levels:
        parents += [stem] * len(level.tokens)
        stem = len(tokens)
        tokens += level.tokens
    return Draft(
        tuple(tokens),
        tuple(parents),
        tuple(p for level in levels for p in level.probabilities),
        drawn_from=tuple(source for level in levels for source in level.drawn_from),
    )
