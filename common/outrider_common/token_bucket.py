"""A token bucket: so much a second, and a burst of so much at once.

Pure; the clock is an argument. Knows nothing of what is counted.
"""

import time
from collections.abc import Callable


class TokenBucket:
    """Amounts that come back with time.

    In any t seconds at most burst + rate * t is taken. An amount may also be charged afterwards,
    when it has been used already; that can leave a debt, and nothing is taken before it is paid.

    Args:
        rate: what comes back in a second, above 0.
        burst: what the bucket holds, above 0; it begins full.
        clock: seconds, monotonic.
    """

    def __init__(
        self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._level = burst
        self._filled_at = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take an amount of at most the burst, if it is there.

        Returns:
            0.0 if it was taken, else in how many seconds it will be there; nothing is taken then.
        """
        wait_s = self.wait_s(amount)
        if wait_s == 0.0:
            self._level -= amount
        return wait_s

    def charge(self, amount: float) -> None:
        """Take an amount whether it is there or not."""
        self._fill()
        self._level -= amount

    def wait_s(self, amount: float = 0.0) -> float:
        """In how many seconds an amount, or the end of a debt, will be there; 0.0 if it is."""
        self._fill()
        return max(0.0, (amount - self._level) / self.rate)

    def _fill(self) -> None:
        now = self._clock()
        # Clocks that stand still or go back fill nothing.
        self._level = min(self.burst, self._level + self.rate * max(0.0, now - self._filled_at))
        self._filled_at = max(now, self._filled_at)
