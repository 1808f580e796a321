"""A proposer that says again what the drafter wrote alone while no verifier was there.

So verifying such a text is nothing but drafting it at no cost. Knows nothing of how it was written.
"""

from collections.abc import Sequence
from typing import Final

from outrider_edge.proposer import Draft

NAME: Final = "recall"

CHANCE: Final = 0.9
"""What a token is said to be worth at first; the calibration learns what it is."""


class Recall:
    """Drafts one text, as long as what is committed is its beginning.

    Args:
        start: the position of its first token.
        tokens: the text.
    """

    def __init__(self, start: int, tokens: Sequence[int]) -> None:
        self._start = start
        self._tokens = tuple(tokens)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """The rest of the text after each leaf that stands on it; see `Proposer`."""
        behind = tuple(text[self._start :])
        return [self._draft((*behind, *path), max_depth) for path in paths]

    def _draft(self, known: tuple[int, ...], max_depth: int) -> Draft:
        end = len(known)
        if known != self._tokens[:end]:
            return Draft()
        rest = self._tokens[end : end + max_depth]
        return Draft.chain(rest, [CHANCE] * len(rest))
