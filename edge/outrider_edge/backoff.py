"""How long to wait before the next try: longer each time, and never at the same moment as others.

Exponential back-off with full jitter (Brooker, "Exponential Backoff and Jitter", 2015): a pause is
anything from nothing to a bound that doubles. Pure. Knows nothing of what is tried.
"""

import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0
"""The bound of the first pause, and of the longest."""

HINT_SPREAD: Final = 0.25
"""Somebody who says when to come again is believed, and so much of it is added at random."""


class Backoff:
    """Pauses between tries of one thing.

    Args:
        first_s: what bounds the first pause.
        longest_s: what bounds all.
        uniform: gives a number between two, each equally likely.
    """

    def __init__(
        self,
        first_s: float = FIRST_S,
        longest_s: float = LONGEST_S,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._uniform = uniform
        self._bound_s = first_s

    def next_s(self, hint_s: float | None = None) -> float:
        """The next pause.

        Args:
            hint_s: the other side asked not to come earlier.
        """
        pause_s = self._uniform(0.0, self._bound_s)
        self._bound_s = min(2 * self._bound_s, self._longest_s)
        if hint_s is None:
            return pause_s
        return max(pause_s, hint_s + self._uniform(0.0, HINT_SPREAD * hint_s))

    def reset(self) -> None:
        """It worked: the next pause is a first one again."""
        self._bound_s = self._first_s
