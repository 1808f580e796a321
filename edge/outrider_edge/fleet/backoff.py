"""How long to wait before the next attempt: longer each time, and never the same for all devices.

Pure but for the randomness that it is given.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses that double up to a limit, each shortened by chance to half of it at most.

    A thousand devices that lose a broker at the same moment do not come back at the same moment.

    Attributes:
        first_s: the first pause at most.
        last_s: the limit.
        chance: a number in [0, 1), such as `random.random`.
    """

    first_s: float
    last_s: float
    chance: Callable[[], float]
    _next_s: float = 0.0

    def pause_s(self) -> float:
        """The next pause."""
        full_s = min(self._next_s or self.first_s, self.last_s)
        self._next_s = min(2 * full_s, self.last_s)
        return full_s * (1 - self.chance() / 2)

    def reset(self) -> None:
        """Begin anew: the last attempt was a success."""
        self._next_s = 0.0
