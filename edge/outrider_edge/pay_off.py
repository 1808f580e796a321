"""Whether drafting makes a session faster than leaving it to the verifier, by what is measured.

Forecasts can be wrong in ways that nobody models: nodes take the verifier's processor while they
are read, an edge on the same machine takes its memory. So drafting has to show that it pays: its
rate is compared with that of short rests. Pure. Knows nothing of trees, guesses or clocks.
"""

import math
from collections import deque
from typing import Final

WINDOW: Final = 48
"""Passes with drafts that are remembered."""

RESTED_WINDOW: Final = 24
"""Passes of rests that are remembered: they are fewer, and so reach as far back."""

LEAST_DRAFTED: Final = 24
"""Passes with drafts before anything is concluded."""

TRIAL: Final = 6
"""Passes of a rest that is made to compare."""

PASSES_BETWEEN_TRIALS: Final = 192
MOST_PASSES_BETWEEN_TRIALS: Final = 1536
"""From trial to trial: so many at first, twice as many each time that drafting clearly pays."""

CLEARLY: Final = 1.15
"""Drafting that is faster than this share of a rest's rate clearly pays."""

FIRST_REST: Final = 32
LONGEST_REST: Final = 512
"""Passes of a rest, because drafting did not pay: so many at first, twice as many each time."""

SURELY_PAYS: Final = 2.0
"""With so many tokens a pass nothing is compared: no drafts make passes so much longer."""

MOST_TIMES_MEDIAN: Final = 3.0
"""A pass counts for no more than so many times the median: a freeze says nothing of drafting."""

LEAST_RATIO: Final = 0.97
"""Drafting that is slower than this share of a rest's rate is stopped."""


class PayOff:
    """Compares rates: tokens over seconds.

    Sessions with one verifier share it, one after another or at the same time, so that not every
    answer has to learn anew what the one before has shown.
    """

    def __init__(self) -> None:
        self._drafted = Rate(WINDOW)
        self._rested = Rate(RESTED_WINDOW)
        self._num_left = 0  # of a rest, in passes
        self._between_trials = PASSES_BETWEEN_TRIALS
        self._since_trial = PASSES_BETWEEN_TRIALS
        self._next_rest = FIRST_REST

    @property
    def is_resting(self) -> bool:
        """Whether nothing is to be drafted now."""
        return self._num_left > 0

    def saw(self, num_tokens: int, seconds: float) -> None:
        """A pass was committed that shows what drafting, or resting, yields.

        Args:
            num_tokens: that it committed.
            seconds: since the commit before.
        """
        self._since_trial += 1
        if self.is_resting:
            self._rested.add(num_tokens, seconds)
            self._num_left -= 1
        else:
            self._drafted.add(num_tokens, seconds)
            self._num_left = self._rest_needed()

    def _rest_needed(self) -> int:
        """Passes of a rest that should begin now; 0: go on."""
        drafted = self._drafted
        if drafted.num_passes < LEAST_DRAFTED or drafted.tokens_per_pass >= SURELY_PAYS:
            return 0
        if self._since_trial >= self._between_trials:
            self._between_trials = self._passes_to_next_trial()
            self._since_trial = 0
            return TRIAL
        if drafted.per_s >= LEAST_RATIO * self._rested.per_s:
            self._next_rest = FIRST_REST
            return 0
        num_passes, self._next_rest = self._next_rest, min(2 * self._next_rest, LONGEST_REST)
        self._drafted = Rate(WINDOW)
        return num_passes

    def _passes_to_next_trial(self) -> int:
        """More of them after each that showed how much drafting gains: a trial costs that much."""
        rested_per_s = self._rested.per_s
        if not rested_per_s or self._drafted.per_s < CLEARLY * rested_per_s:
            return PASSES_BETWEEN_TRIALS
        return min(2 * self._between_trials, MOST_PASSES_BETWEEN_TRIALS)


class PayOffWatch:
    """Shows a `PayOff` those passes of one session that say something.

    What is in flight when the session or a rest begins, and the time until drafts arrive after it,
    say nothing of either way: passes are shown as soon as they are settled.

    Args:
        pay_off: is told.
    """

    def __init__(self, pay_off: PayOff) -> None:
        self._pay_off = pay_off
        self._was_resting: bool | None = None
        self._num_unsettled = 0
        self._num_rests = 0

    @property
    def is_resting(self) -> bool:
        """Whether nothing is to be drafted now."""
        return self._pay_off.is_resting

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
        if self._was_resting is not self.is_resting:
            self._was_resting = self.is_resting
            self._num_rests += self.is_resting
            self._num_unsettled = 1 + math.ceil(round_trip_s / max(seconds, 1e-6))
        if self._num_unsettled:
            self._num_unsettled -= 1
        else:
            self._pay_off.saw(num_tokens, seconds)


class Rate:
    """Tokens a second over the latest passes.

    Args:
        window: how many of them.
    """

    def __init__(self, window: int) -> None:
        self._tokens: deque[int] = deque(maxlen=window)
        self._seconds: deque[float] = deque(maxlen=window)

    @property
    def num_passes(self) -> int:
        """How many there were, up to the window."""
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
