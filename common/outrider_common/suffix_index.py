"""Where in a token sequence another one's end has stood before.

For a text that grows and shrinks at its end, looked up by its own end or by that of another text.
Knows tokens only; what the places are good for is the caller's business.
"""

from typing import Final, NamedTuple

MAX_MATCH_TOKENS: Final = 32
"""Matches at least this long count as equally long, and nothing is sought beyond the first."""
MAX_CANDIDATES: Final = 24
"""How many places are looked at, the latest ones. That is enough: when a passage of 260 tokens was
copied from 9,000 tokens before, at each of them the next one was found."""
MAX_COMPARED_TOKENS: Final = 128
"""How many tokens one search compares at most: it bounds the time that any text can take."""


class Match(NamedTuple):
    """A place that reads like the end of a text. A longer one is larger, and so is a later one.

    Attributes:
        length: how many tokens match, at most the index's limit.
        end: the position after the matching tokens; what stands there may come next.
    """

    length: int
    end: int


class SuffixIndex:
    """Finds where the end of a text stands in a token sequence that grows and shrinks at its end.

    Every position is chained to the latest earlier one that ends with the same `min_match` tokens,
    as in the hash chains of LZ77 compressors (Deflate, RFC 1951, section 4). Appending and dropping
    a token both take constant time, in the worst case and not only on average: a suffix automaton
    gives that only for texts that never shrink, and does not know the latest occurrence.

    Args:
        min_match: shorter matches are passed over; at least 1.
        max_match: see `MAX_MATCH_TOKENS`.
        max_candidates: see `MAX_CANDIDATES`.
        max_compared: see `MAX_COMPARED_TOKENS`.
    """

    def __init__(
        self,
        min_match: int,
        max_match: int = MAX_MATCH_TOKENS,
        max_candidates: int = MAX_CANDIDATES,
        max_compared: int = MAX_COMPARED_TOKENS,
    ) -> None:
        self.tokens: list[int] = []
        self._min_match = min_match
        self._max_match = max_match
        self._max_candidates = max_candidates
        self._max_compared = max_compared
        self._latest: dict[tuple[int, ...], int] = {}
        # For every position: the latest earlier position whose last tokens are the same, or -1.
        self._previous: list[int] = []

    def append(self, token: int) -> None:
        """Add one token at the end."""
        self.tokens.append(token)
        gram = self._last_gram(self.tokens)
        self._previous.append(self._latest.get(gram, -1))
        self._latest[gram] = len(self.tokens) - 1

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens, as if the others had never been there."""
        while len(self.tokens) > length:
            gram, previous = self._last_gram(self.tokens), self._previous.pop()
            if previous < 0:
                del self._latest[gram]
            else:
                self._latest[gram] = previous
            self.tokens.pop()

    def matches(self, text: list[int]) -> list[Match]:
        """Where the end of a text stands here, the longest matches first, the latest on ties.

        Only so many candidates are looked at, and so many tokens compared; after a match of
        `max_match` tokens there is nothing better to find.

        Args:
            text: another text, or this index's own `tokens`, whose end itself is no match then;
                occurrences may overlap it.
        """
        found: list[Match] = []
        left = self._max_compared
        candidate = self._first_candidate(text)
        for _ in range(self._max_candidates):
            if candidate < self._min_match - 1:  # the end of the chain, or of too short a beginning
                break
            length = self._match_length(text, candidate)
            found.append(Match(length, candidate + 1))
            left -= length - self._min_match
            if length >= self._max_match or left <= 0:
                break
            candidate = self._previous[candidate]
        found.sort(reverse=True)
        return found

    def following(self, match: Match, count: int) -> list[int]:
        """What followed a match of this index's own `tokens`, `count` tokens.

        A match that ends d tokens before the end predicts a text of period d, as in LZ77.
        """
        period = self.tokens[match.end : match.end + count]
        return (period * -(-count // len(period)))[:count]

    def _last_gram(self, tokens: list[int]) -> tuple[int, ...]:
        # Shorter than `min_match` at the very beginning, where it equals no other.
        return tuple(tokens[-self._min_match :])

    def _first_candidate(self, text: list[int]) -> int:
        if text is self.tokens:
            return self._previous[-1] if text else -1
        return self._latest.get(self._last_gram(text), -1)

    def _match_length(self, text: list[int], candidate: int) -> int:
        tokens, last = self.tokens, len(text) - 1
        limit = min(candidate + 1, last + 1, self._max_match)
        length = self._min_match
        while length < limit and tokens[candidate - length] == text[last - length]:
            length += 1
        return length
