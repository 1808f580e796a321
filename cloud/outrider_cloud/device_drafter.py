"""A synthetic drafter on the target's own device: ordinary speculative decoding in the data centre.

Before each pass it drafts a chain for every session that decodes, one level of all of them after
the other; the pass that follows lasts so much longer. Nothing crosses a network. It knows what
everything takes, and drafts the number of levels that is best for as many sessions as there are.
Knows nothing of trees or rows.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from outrider_cloud.own_guesses import OwnGuess
from outrider_common.synthetic import SyntheticSpec, guess

MOST_LEVELS: Final = 32
"""The longest chain."""

_NO_TIME_S: Final = 1e-9
"""Nothing is faster."""

_COINS: Final = 0
"""Decides which guesses are wrong: the same ones as those of an edge that is told nothing else."""


@cache
def best_levels(spec: SyntheticSpec, num_sessions: int) -> int:
    """With how many levels of drafts so many sessions get the most tokens a second.

    Of k levels a session is committed (1 - a^(k+1)) / (1 - a) tokens a pass (Leviathan et al.,
    arXiv:2211.17192, equation 1), and that takes k drafts and a pass of k + 1 rows a session.
    """

    def rate(num_levels: int) -> float:
        tokens = sum(spec.acceptance**level for level in range(num_levels + 1))
        drafting_s = num_levels * spec.level_s(num_sessions)
        pass_s = spec.pass_s(num_sessions * (num_levels + 1))
        return tokens / max(drafting_s + pass_s, _NO_TIME_S)

    return max(range(MOST_LEVELS + 1), key=rate)


class DeviceDrafter:
    """Drafts for all sessions of an engine.

    Args:
        spec: the target's, with the time of a level, above 0.
    """

    def __init__(self, spec: SyntheticSpec) -> None:
        self._spec = spec
        self._num_levels = best_levels(spec, 1)
        self._levels: list[int] = []  # that were drafted since the last pass, of each session

    def guesses(self, text: Iterable[int]) -> "DeviceGuesses":
        """What it drafts for a session with this text."""
        return DeviceGuesses(self, text)

    def draft(self, text: Sequence[int], most: int) -> list[OwnGuess]:
        """A chain of at most so many guesses."""
        context, chance = list(text), self._spec.acceptance
        chain: list[OwnGuess] = []
        for _ in range(min(self._num_levels, most)):
            token = guess(self._spec, context, _COINS)
            context.append(token)
            chain.append(OwnGuess(token, chance, votes=chance, is_long=False))
        self._levels.append(len(chain))
        return chain

    def settle(self) -> float:
        """Seconds that the drafts take which were made since it was last called, once a pass.

        A level is drafted at once for all sessions whose chains are so long.
        """
        deepest = max(self._levels, default=0)
        widths = [sum(levels > depth for levels in self._levels) for depth in range(deepest)]
        if self._levels:
            self._num_levels = best_levels(self._spec, len(self._levels))
        self._levels.clear()
        return sum(map(self._spec.level_s, widths))


class DeviceGuesses:
    """The drafts of one session; see `Guesses`.

    Args:
        drafter: makes them.
        text: as it is now.
    """

    def __init__(self, drafter: DeviceDrafter, text: Iterable[int]) -> None:
        self._drafter = drafter
        self._text = list(text)
        self._made: dict[tuple[int, ...], list[OwnGuess]] = {}

    def go_on(self, tokens: Sequence[int]) -> None:
        """See `Guesses.go_on`."""
        self._text += tokens
        self._made = {}

    def after(self, path: tuple[int, ...], most: int) -> list[OwnGuess]:
        """See `Guesses.after`; drafted once, however often it is looked at."""
        if path not in self._made:
            self._made[path] = self._drafter.draft([*self._text, *path], most)
        return self._made[path][:most]
