"""Whether one of several verifiers is to be asked now, by what it did when it was asked before.

Pure: times are passed in. Knows nothing of networks.
"""

import enum
from dataclasses import dataclass, field
from typing import Final

from outrider_common.errors import CapacityError, DrainingError, OutriderError, UnavailableError
from outrider_edge.backoff import Backoff

FIRST_AVOIDED_S: Final = 1.0
LONGEST_AVOIDED_S: Final = 30.0
"""For how long a verifier that failed is avoided, about, at first and at most."""


class State(enum.Enum):
    """How a verifier is, as far as is known."""

    UNKNOWN = "unknown"
    """It was not asked yet."""
    READY = "ready"
    UNFIT = "unfit"
    """It answers, but this edge has no drafter for it."""
    FULL = "full"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"


def _avoidance() -> Backoff:
    """Never so short that the same one is asked again at once."""
    return Backoff(FIRST_AVOIDED_S, LONGEST_AVOIDED_S, uniform=lambda _low, high: high)


@dataclass(slots=True)
class Availability:
    """What is known of one verifier.

    Attributes:
        state: how it was when it was last heard of.
        why: what is wrong with it, in a sentence; empty if nothing is.
    """

    state: State = State.UNKNOWN
    why: str = ""
    _until_s: float = field(init=False, default=0.0)
    _backoff: Backoff = field(init=False, default_factory=_avoidance)

    @property
    def is_usable(self) -> bool:
        """Whether it takes sessions, as far as is known."""
        return self.state is State.READY

    @property
    def until_s(self) -> float:
        """Until when others are to be asked first, even if they failed, too."""
        return self._until_s

    def answered(self) -> None:
        """It is there and takes sessions."""
        self.state, self.why = State.READY, ""
        self._until_s = 0.0
        self._backoff.reset()

    def is_unfit(self, why: str) -> None:
        """It is there, and of no use here."""
        self.state, self.why = State.UNFIT, why

    def told_to_go(self, now_s: float, deadline_s: float) -> None:
        """It is about to end, within so many seconds."""
        self.state, self.why = State.DRAINING, "It is about to end."
        self._until_s = now_s + deadline_s

    def failed(self, error: OutriderError, now_s: float) -> None:
        """A call failed; an error that says something of the call alone changes nothing."""
        match error:
            case CapacityError():
                self.state = State.FULL
            case DrainingError():
                self.state = State.DRAINING
            case UnavailableError():
                self.state = State.UNREACHABLE
            case OutriderError(reason=OutriderError.reason):
                self.state = State.UNREACHABLE
            case _:
                return
        self.why = str(error)
        self._until_s = now_s + max(self._backoff.next_s(), error.retry_after_s or 0.0)
