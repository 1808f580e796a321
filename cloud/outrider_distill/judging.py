"""The ranks of an answer's tokens among a drafter's guesses.

The drafter guesses as the edge would have it do: with its bundle, and with the target's noise.
Knows nothing of how the answer was written, or of what ranks are worth.
"""

from collections.abc import Sequence

import numpy as np

from outrider_common.errors import InvalidInputError
from outrider_common.sampling import Logits
from outrider_distill.answers import Answer
from outrider_distill.speculation import BEYOND_THE_END, MOST_GUESSES, BlockRanks, Ranks
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.ranking import Ranker
from outrider_models.bundle import Bundle


class Drafter:
    """A bundle that guesses along answers.

    Args:
        name: what it was called.
        bundle: its files.
        num_threads: of a draft pass.
        longest: tokens of the longest question and its answer.

    Raises:
        InvalidInputError: these do not fit into it.
    """

    def __init__(self, name: str, bundle: Bundle, num_threads: int, longest: int) -> None:
        self.name = name
        self.model = OnnxModel(bundle, num_threads=num_threads)
        self.masks: Sequence[int] = bundle.manifest.mask_token_ids
        room = self.model.max_positions - len(self.masks)
        if longest > room:
            raise InvalidInputError(
                f"The longest prompt has {longest} tokens with its answer, but only {room} fit "
                f"into the drafter '{name}'; leave it out."
            )

    def next_ranks(self, answer: Answer) -> Ranks:
        """Of each token of an answer the rank, given all before it."""
        tokens, begin = answer.tokens, answer.begin
        ranker = self._ranker(answer)
        num_rows = len(tokens) - begin
        rows = self.model.new_sequence().forward(tokens[:-1], num_logits=num_rows)
        return np.array([_rank(ranker, row, answer, begin + i) for i, row in enumerate(rows)])

    def block_ranks(self, answer: Answer) -> BlockRanks:
        """For each place of an answer the ranks of the tokens from there on, from one pass each.

        A pass is given what stands before the place, and all masks behind it.
        """
        tokens, size = answer.tokens, 1 + len(self.masks)
        ranker = self._ranker(answer)
        sequence = self.model.new_sequence()
        sequence.forward(tokens[: answer.begin - 1], num_logits=1)
        ranks = np.full((len(tokens) - answer.begin, size), BEYOND_THE_END, np.int64)
        for place in range(answer.begin, len(tokens)):
            rows = sequence.forward([tokens[place - 1], *self.masks])
            sequence.truncate(place)
            for depth, row in enumerate(rows[: len(tokens) - place]):
                ranks[place - answer.begin, depth] = _rank(ranker, row, answer, place + depth)
        return ranks

    def _ranker(self, answer: Answer) -> Ranker:
        return Ranker(answer.sampling, self.model.num_logits, self.model.token_ids)


def _rank(ranker: Ranker, logits: Logits, answer: Answer, position: int) -> int:
    """The place of the answer's token among the guesses."""
    guesses = ranker.rank(logits, position, (), (), MOST_GUESSES).tokens
    token = answer.tokens[position]
    return guesses.index(token) if token in guesses else MOST_GUESSES
