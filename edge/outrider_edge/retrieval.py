"""Drafting for free: what followed the last time that the text ended as it does now.

Retrieval over prompt and output of one generation (prompt lookup). Good where an answer copies
from its prompt or repeats itself, silent elsewhere. Knows tokens only, no model and no language.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from outrider_edge.prefix import common_prefix_length
from outrider_edge.proposer import Draft, DraftingTask

MIN_MATCH_TOKENS: Final = 3
"""Shorter matches are mostly chance."""
MAX_MATCH_TOKENS: Final = 32
"""Matches at least this long count as equally long, so that the latest of them wins."""
MAX_CANDIDATES: Final = 1024
"""How many earlier occurrences are looked at, latest first."""


@dataclass(frozen=True, slots=True)
class Match:
    """An earlier place where the text reads like its end.

    Attributes:
        end: the position after the matching tokens; what stands there may come next.
        length: how many tokens match, at most the index's limit.
    """

    end: int
    length: int


class SuffixIndex:
    """Finds earlier occurrences of the end of a growing token sequence.

    Every position is chained to the latest earlier one that ends with the same `min_match` tokens,
    as in the hash chains of LZ77 compressors (Deflate, RFC 1951, section 4). Appending and dropping
    a token both take constant time, in the worst case and not only on average: a suffix automaton
    gives that only for texts that never shrink, and does not know the latest occurrence.
    """

    def __init__(
        self,
        min_match: int = MIN_MATCH_TOKENS,
        max_match: int = MAX_MATCH_TOKENS,
        max_candidates: int = MAX_CANDIDATES,
    ) -> None:
        self.tokens: list[int] = []
        self._min_match = min_match
        self._max_match = max_match
        self._max_candidates = max_candidates
        self._latest: dict[tuple[int, ...], int] = {}
        # For every position: the latest earlier position whose last tokens are the same, or -1.
        self._previous: list[int] = []

    def append(self, token: int) -> None:
        """Add one token at the end."""
        self.tokens.append(token)
        gram = self._last_gram()
        self._previous.append(self._latest.get(gram, -1))
        self._latest[gram] = len(self.tokens) - 1

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens, as if the others had never been there."""
        while len(self.tokens) > length:
            gram, previous = self._last_gram(), self._previous.pop()
            if previous < 0:
                del self._latest[gram]
            else:
                self._latest[gram] = previous
            self.tokens.pop()

    def longest_match(self) -> Match | None:
        """The longest earlier occurrence of the end of the sequence, the latest one on ties.

        Occurrences may overlap the end. None where no `min_match` tokens are the same.
        """
        tokens, last = self.tokens, len(self.tokens) - 1
        best_length, best_end = self._min_match - 1, 0
        candidate = self._previous[last] if tokens else -1
        for _ in range(self._max_candidates):
            # No candidate this early has enough tokens before it; this also ends the chain.
            if candidate < best_length or best_length >= self._max_match:
                break
            # Only a candidate that agrees one token beyond the best can be longer.
            if tokens[candidate - best_length] == tokens[last - best_length]:
                length = self._match_length(candidate)
                if length > best_length:
                    best_length, best_end = length, candidate + 1
            candidate = self._previous[candidate]
        return Match(best_end, best_length) if best_end else None

    def _last_gram(self) -> tuple[int, ...]:
        # Shorter than `min_match` at the very beginning, where it equals no other.
        return tuple(self.tokens[-self._min_match :])

    def _match_length(self, candidate: int) -> int:
        tokens, last = self.tokens, len(self.tokens) - 1
        limit = min(candidate + 1, self._max_match)
        length = self._min_match
        while length < limit and tokens[candidate - length] == tokens[last - length]:
            length += 1
        return length


class RetrievalProposer:
    """Drafts the chain of tokens that followed the longest earlier match."""

    def __init__(self, task: DraftingTask, index: SuffixIndex) -> None:
        self._vocab_size = task.vocab_size
        self._index = index

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """A chain of what followed the longest match; nothing where there is none."""
        return [self._chain([*text, *path], max_depth) for path in paths]

    def _chain(self, context: list[int], max_tokens: int) -> Draft:
        self._follow(context)
        match = self._index.longest_match()
        if match is None:
            return Draft()
        tokens = self._valid(self._continuation(match.end, max_tokens))
        return Draft.chain(
            tokens, [acceptance_prior(match.length, reach) for reach in range(len(tokens))]
        )

    def _follow(self, context: list[int]) -> None:
        self._index.truncate(common_prefix_length(self._index.tokens, context))
        for token in context[len(self._index.tokens) :]:
            self._index.append(token)

    def _continuation(self, start: int, max_tokens: int) -> list[int]:
        # A match that ends d tokens before the end predicts a text of period d, as in LZ77.
        period = self._index.tokens[start : start + max_tokens]
        return (period * -(-max_tokens // len(period)))[:max_tokens]

    def _valid(self, tokens: list[int]) -> list[int]:
        for i, token in enumerate(tokens):
            if token >= self._vocab_size:
                return tokens[:i]
        return tokens


def acceptance_prior(match_length: int, reach: int) -> float:
    """How likely a retrieved token is right, given that those before it in the chain were.

    If those were right, the match has grown by them: only the sum of both arguments counts, and the
    conditional chance rises along the chain while the chance of the whole path falls. The curve was
    fitted to greedy answers of SmolLM2-135M to Spec-Bench prompts (0.60 at 3 matching tokens, 0.80
    at 5, 0.90 at 12). It is a prior: what is accepted in a session tells more.

    Args:
        match_length: matching tokens at the end of the context, at least 1.
        reach: retrieved tokens between the match and this one.
    """
    return 1.0 - 1.3 / (match_length + reach + 0.4)


class RetrievalFactory:
    """Makes a `RetrievalProposer` for each generation; they share nothing."""

    name = "retrieval"

    def __init__(self, min_match: int = MIN_MATCH_TOKENS) -> None:
        self._min_match = min_match

    def start(self, task: DraftingTask) -> RetrievalProposer:
        """A fresh proposer for one generation."""
        return RetrievalProposer(task, SuffixIndex(self._min_match))
