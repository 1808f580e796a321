"""The verifier's own guesses: how one text may go on, by what followed where it read alike before.

Retrieval over prompt and output of a session (prompt lookup, arXiv:2304.04487). How often guesses
of a kind were right is learnt from the text itself, whether they were checked or not. Pure. Knows
nothing of trees, passes or rows.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from outrider_common.match_votes import MAX_MATCHES, MIN_MATCH_TOKENS, NO_VOTE, match_votes
from outrider_common.suffix_index import SuffixIndex

_LONG_MATCH: Final = 4
"""From so many tokens on a match is one of the long ones, which are judged by themselves."""

_PRIOR_RATIO: Final = 0.85
"""Guesses are taken to be right so many times as often as votes say, at first. Over 20 Spec-Bench
prompts it was 1.1 greedily and 0.88 at temperature 1."""

_PRIOR_GUESSES: Final = 4.0
"""The prior counts as much as so many guesses that votes call certain."""

_MEMORY_GUESSES: Final = 64.0
"""Judged guesses after which one counts for 1/e."""

_LARGEST_CHANCE: Final = 0.98
"""Nothing is certain: a text that has copied for long ends its copy some time."""


@dataclass(frozen=True, slots=True)
class OwnGuess:
    """A guess for one token of a chain.

    Attributes:
        token: the token.
        chance: the estimated chance that it comes next, if all before it in the chain did.
        votes: the same chance by votes alone.
        is_long: whether the longest match that says so is a long one.
    """

    token: int
    chance: float
    votes: float
    is_long: bool


class Guesses(Protocol):
    """Guesses of the verifier's own for one session, whatever makes them."""

    def go_on(self, tokens: Sequence[int]) -> None:
        """The text goes on with these."""
        ...

    def after(self, path: tuple[int, ...], most: int) -> Sequence[OwnGuess]:
        """A chain of up to `most` guesses for what follows the text and these tokens."""
        ...


class GuessChances:
    """How much more or less often guesses are right than votes say, for one kind of matches.

    The ratio is (right + w r) / (expected + w): the counts fade, r is the prior ratio, and w its
    weight. A ratio rather than a share, so that what short chains teach holds for all of the kind.
    """

    def __init__(self) -> None:
        self._right = _PRIOR_GUESSES * _PRIOR_RATIO
        self._expected = _PRIOR_GUESSES

    def chance(self, votes: float) -> float:
        """The chance of a guess to which votes give this one."""
        return min(votes * self._right / self._expected, _LARGEST_CHANCE)

    def observe(self, votes: float, *, was_right: bool) -> None:
        """A guess to which votes gave this chance was right, or was not."""
        kept = 1 - 1 / _MEMORY_GUESSES
        prior = (1 - kept) * _PRIOR_GUESSES  # fades back to what it was before anything was seen
        self._right = kept * self._right + prior * _PRIOR_RATIO + was_right
        self._expected = kept * self._expected + prior + votes


class OwnGuesses:
    """Follows the text of one session and guesses how it goes on.

    Args:
        text: as it is now.
    """

    def __init__(self, text: Iterable[int]) -> None:
        self._index = SuffixIndex(MIN_MATCH_TOKENS)
        self._chances = (GuessChances(), GuessChances())  # of short matches, of long ones
        self._made: dict[tuple[int, ...], list[OwnGuess]] = {}
        self._append(text)

    def go_on(self, tokens: Sequence[int]) -> None:
        """The text goes on with these; learns from what it had guessed."""
        for path, guesses in self._made.items():
            if tuple(tokens[: len(path)]) == path:
                self._judge(guesses, tokens[len(path) :])
        self._made = {}
        self._append(tokens)

    def after(self, path: tuple[int, ...], most: int) -> list[OwnGuess]:
        """A chain of up to `most` guesses for what follows the text and these tokens."""
        if path not in self._made:
            self._made[path] = self._guess(path, most) if most else []
        return self._made[path][:most]

    # --- inside -------------------------------------------------------------------------------

    def _append(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self._index.append(token)

    def _guess(self, path: Sequence[int], most: int) -> list[OwnGuess]:
        length = len(self._index.tokens)
        self._append(path)
        found = self._index.matches(self._index.tokens)[:MAX_MATCHES]
        followed = [(match.length, self._index.following(match, most)) for match in found]
        self._index.truncate(length)
        return self._chain(followed, most)

    def _chain(self, followed: Sequence[tuple[int, Sequence[int]]], most: int) -> list[OwnGuess]:
        """At each step what most votes say; matches that say something else fall silent."""
        chain: list[OwnGuess] = []
        while followed and len(chain) < most:
            step = len(chain)
            votes: dict[int, float] = {}
            for length, tokens in followed:
                votes[tokens[step]] = votes.get(tokens[step], 0.0) + match_votes(length + step)
            token = max(votes, key=votes.__getitem__)  # of equal ones that of the longest match
            followed = [one for one in followed if one[1][step] == token]
            share = votes[token] / (sum(votes.values()) + NO_VOTE)
            is_long = followed[0][0] + step >= _LONG_MATCH
            chance = self._chances[is_long].chance(share)
            chain.append(OwnGuess(token, chance, share, is_long))
        return chain

    def _judge(self, guesses: Sequence[OwnGuess], tokens: Sequence[int]) -> None:
        """What stands after a wrong guess says nothing of those below it."""
        for guess, token in zip(guesses, tokens, strict=False):
            was_right = guess.token == token
            self._chances[guess.is_long].observe(guess.votes, was_right=was_right)
            if not was_right:
                return
