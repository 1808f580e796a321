"""Whether drafting makes a session faster than leaving it to the verifier, by what is measured.

Forecasts can be wrong in ways that nobody models: nodes take the verifier's processor while they
are read, an edge on the same machine takes its memory. So drafting has to show that it pays: its
rate is compared with that of short rests. Pure. Knows nothing of trees, guesses or clocks.
"""

import math
from collections import deque
from typing import Final

WINDOW: Final = 48
"""Passes that are remembered of either way."""

LEAST_DRAFTED: Final = 32
"""Passes with drafts before anything is concluded."""

TRIAL: Final = 6
"""Passes of a rest that is made to compare."""

PASSES_BETWEEN_TRIALS: Final = 192

FIRST_REST: Final = 32
LONGEST_REST: Final = 512
"""Passes of a rest, because drafting did not pay: so many at first, twice as many each time."""

SURELY_PAYS: Final = 1.3
"""With so many tokens a pass nothing is compared: no drafts make passes so much longer."""

MOST_TIMES_MEDIAN: Final = 3.0
"""A pass counts for no more than so many times the median: a freeze says nothing of drafting."""

LEAST_RATIO: Final = 0.97
"""Drafting that is slower than this share of a rest's rate is stopped."""


class PayOff:
    """Compares rates: tokens over seconds.

    Drafts in flight when a rest begins, and the time until drafts arrive after it, say nothing of
    either way: passes are counted as soon as they are settled.
    """

    def __init__(self) -> None:
        self._drafted = _Rate()
        self._rested = _Rate()
        self._is_resting = False
        self._num_left = 0  # of a rest, in passes
        self._num_unsettled = 0
        self._next_rest = FIRST_REST
        self._since_trial = PASSES_BETWEEN_TRIALS
        self._num_rests = 0

    @property
    def is_resting(self) -> bool:
        """Whether nothing is to be drafted now."""
        return self._is_resting

    @property
    def num_rests(self) -> int:
        """How often drafting was stopped, to compare or because it did not pay."""
        return self._num_rests

    def saw(self, num_tokens: int, seconds: float, round_trip_s: float) -> None:
        """A pass was committed.

        Args:
            num_tokens: that it committed.
            seconds: since the commit before.
            round_trip_s: of the link: for so long things are unsettled after a change.
        """
        self._since_trial += 1
        if self._num_unsettled:
            self._num_unsettled -= 1
            return
        (self._rested if self._is_resting else self._drafted).add(num_tokens, seconds)
        if self._is_resting:
            self._num_left -= 1
            if self._num_left <= 0:
                self._change(round_trip_s, seconds)
        elif self._drafted.num_passes >= LEAST_DRAFTED:
            self._conclude(round_trip_s, seconds)

    def _conclude(self, round_trip_s: float, seconds: float) -> None:
        """Go on, or rest."""
        if self._drafted.tokens_per_pass >= SURELY_PAYS:
            return
        if self._since_trial >= PASSES_BETWEEN_TRIALS:
            self._since_trial = 0
            self._rested = _Rate()
            self._rest(TRIAL, round_trip_s, seconds)
        elif self._drafted.per_s < LEAST_RATIO * self._rested.per_s:
            self._rest(self._next_rest, round_trip_s, seconds)
            self._next_rest = min(2 * self._next_rest, LONGEST_REST)
            self._drafted = _Rate()
        else:
            self._next_rest = FIRST_REST

    def _rest(self, num_passes: int, round_trip_s: float, seconds: float) -> None:
        self._num_left = num_passes
        self._num_rests += 1
        self._change(round_trip_s, seconds)

    def _change(self, round_trip_s: float, seconds: float) -> None:
        self._is_resting = not self._is_resting
        self._num_unsettled = 1 + math.ceil(round_trip_s / max(seconds, 1e-6))


class _Rate:
    """Tokens a second over the latest passes."""

    def __init__(self) -> None:
        self._tokens: deque[int] = deque(maxlen=WINDOW)
        self._seconds: deque[float] = deque(maxlen=WINDOW)

    @property
    def num_passes(self) -> int:
        """How many there were, up to `WINDOW`."""
        return len(self._tokens)

    @property
    def tokens_per_pass(self) -> float:
        """The mean; 0 without passes."""
        return sum(self._tokens) / len(self._tokens) if self._tokens else 0.0

    @property
    def per_s(self) -> float:
        """The rate; 0 without passes."""
        if not self._seconds:
            return 0.0
        most = MOST_TIMES_MEDIAN * sorted(self._seconds)[len(self._seconds) // 2]
        total = sum(min(seconds, most) for seconds in self._seconds)
        return sum(self._tokens) / max(total, 1e-9)

    def add(self, num_tokens: int, seconds: float) -> None:
        """One more pass."""
        self._tokens.append(num_tokens)
        self._seconds.append(seconds)
