"""Whether a verifier that says nothing is still there: when to ask, and when to give it up.

Counts ticks instead of time, so that an edge which was itself held up for a while, or asleep, does
not take its own absence for the verifier's. Pure. Knows nothing of clocks and streams.
"""

import enum
import math
from typing import Final

from outrider_common.errors import UnavailableError

NUM_TICKS: Final = 8
"""Ticks without a word after which a verifier is given up; in the first half nothing is asked. The
silence may begin up to one tick before the first of them."""

ROUND_TRIPS: Final = 2
"""An answer gets so many times as long as opening the session took, which is a round trip or more,
also where that is longer than the silence which is allowed."""


class SilenceError(UnavailableError):
    """A verifier said nothing for too long."""


class Beat(enum.Enum):
    """What to do after a tick."""

    WAIT = "wait"
    ASK = "ask"
    GIVE_UP = "give up"


class Heartbeat:
    """The silence on one stream.

    Args:
        silence_s: the longest, above 0.
        opening_s: how long it took to open the session.
    """

    def __init__(self, silence_s: float, opening_s: float) -> None:
        self.tick_s = silence_s / (NUM_TICKS + 1)
        self._ask_at = NUM_TICKS // 2
        needed = math.ceil(ROUND_TRIPS * opening_s / self.tick_s)
        self._give_up_at = self._ask_at + max(NUM_TICKS - self._ask_at, needed)
        self._num_heard = 0
        self._num_silent = 0

    def tick(self, num_heard: int) -> Beat:
        """A tick has passed.

        Args:
            num_heard: messages that have come since the beginning.
        """
        if num_heard != self._num_heard:
            self._num_heard = num_heard
            self._num_silent = 0
            return Beat.WAIT
        self._num_silent += 1
        if self._num_silent >= self._give_up_at:
            return Beat.GIVE_UP
        return Beat.ASK if self._num_silent == self._ask_at else Beat.WAIT
