"""Earlier texts, the latest tokens of them, and what in them followed the end of a new one.

May be used from several threads. Knows nothing of generations or of who wrote the texts.
"""

import threading
from collections import deque
from typing import Final

from outrider_common.suffix_index import Match, SuffixIndex

_TEXT_END: Final = -1  # between texts; no token


class TextMemory:
    """Remembers the last so many tokens, and up to as many before them.

    What is too old is dropped in one go, by indexing the rest anew: the mean cost of a token stays
    constant.

    Args:
        max_tokens: so many are remembered for certain; at least 1.
        min_match: shorter matches are passed over.
    """

    def __init__(self, max_tokens: int, min_match: int) -> None:
        self._max_tokens = max_tokens
        self._min_match = min_match
        self._index = SuffixIndex(min_match)
        self._arrived: deque[list[int]] = deque()
        self._lock = threading.Lock()

    @property
    def tokens(self) -> list[int]:
        """What is remembered, with -1 behind each text. Its own list: read it, never change it."""
        return self._index.tokens

    def keep(self, text: list[int]) -> None:
        """Remember a text, from the next search on. Returns at once, in any thread."""
        self._arrived.append(text)

    def continuations(
        self, text: list[int], max_matches: int, count: int
    ) -> list[tuple[Match, list[int]]]:
        """The best matches of a text's end, and up to `count` tokens that followed each."""
        with self._lock:
            while self._arrived:
                self._add(self._arrived.popleft())
            tokens = self._index.tokens
            return [
                (match, _until_text_end(tokens[match.end : match.end + count]))
                for match in self._index.matches(text)[:max_matches]
            ]

    def _add(self, text: list[int]) -> None:
        new = [*text[-self._max_tokens :], _TEXT_END]
        if len(self._index.tokens) + len(new) > 2 * self._max_tokens:
            new = [*self._index.tokens, *new][-self._max_tokens :]
            self._index = SuffixIndex(self._min_match)
        for token in new:
            self._index.append(token)


def _until_text_end(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(_TEXT_END)] if _TEXT_END in tokens else tokens
