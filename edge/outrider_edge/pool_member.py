"""One verifier of a pool: the way to it, how it is, and what was learnt of its pace.

Knows nothing of the others.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from outrider_common import log
from outrider_common.errors import OutriderError, UnavailableError
from outrider_common.messages import GoAway, ModelInfo, Opened, OpenSession, ServerEvent
from outrider_edge.availability import Availability, State
from outrider_edge.estimators import Estimators, RunningQuantile
from outrider_edge.link import SessionLink, VerifierLink
from outrider_edge.session import Clock
from outrider_edge.verifier_choice import Choice
from outrider_edge.wrapped_session import WrappedSession

_logger = logging.getLogger(__name__)

_PROBES: Final = 9
"""Round trips that are remembered."""

Unfit = Callable[[ModelInfo], str | None]
"""Why a model is of no use to this edge, in a sentence; None if it is of use."""


class ClosableLink(VerifierLink, Protocol):
    """The way to one verifier, which somebody has to close."""

    async def close(self) -> None:
        """Give up all that is open."""
        ...


@dataclass(slots=True, eq=False)
class Member:
    """A verifier of a pool.

    Attributes:
        address: where it is.
        link: the way to it.
        unfit: whether its model is of use.
        clock: seconds, monotonic.
        estimators: the pace of sessions there.
        availability: whether it is to be asked.
        info: what it said last; None: it has not answered yet.
        num_open: sessions of this edge there.
    """

    address: str
    link: ClosableLink
    unfit: Unfit
    clock: Clock
    estimators: Estimators = field(default_factory=Estimators)
    availability: Availability = field(default_factory=Availability)
    info: ModelInfo | None = None
    num_open: int = 0
    _num_open_then: int = 0
    _round_trip: RunningQuantile = field(default_factory=lambda: RunningQuantile(_PROBES))

    @property
    def round_trip_s(self) -> float | None:
        """To it and back."""
        return self._round_trip.median

    def is_usable_for(self, model: str) -> bool:
        """Whether a session for a model may be opened there now."""
        return self.serves(model) and self.availability.is_usable

    def serves(self, model: str) -> bool:
        """Whether it has a model, as far as is known."""
        is_fit = self.info is not None and self.availability.state is not State.UNFIT
        return is_fit and self.info is not None and self.info.model == model

    @property
    def choice(self) -> Choice:
        """What is known of it, to compare it with others.

        Sessions that this edge has opened since the verifier was asked are added to what it said.
        What it says of its passes is newer than what sessions have seen, if there were any.
        """
        assert self.info is not None  # it is asked for members that serve a model
        occupancy = self.info.occupancy
        num_new = max(self.num_open - self._num_open_then, 0)
        return Choice(
            round_trip_s=self.round_trip_s,
            pass_s=occupancy.pass_us / 1e6 or self.estimators.estimates().pass_s,
            num_running=occupancy.num_running + num_new,
            num_waiting=occupancy.num_waiting,
            max_running=self.info.limits.max_sessions,
        )

    async def probe(self, timeout_s: float | None = None) -> ModelInfo:
        """Ask what it is and how busy.

        Raises:
            OutriderError: it does not answer, or refuses to.
        """
        began_s = self.clock()
        try:
            info = await self.link.model_info(timeout_s)
        except OutriderError as error:
            self.failed(error)
            raise
        if self.info is not None:  # else the time is that of connecting, too
            self._round_trip.add(self.clock() - began_s)
        self.info, self._num_open_then = info, self.num_open
        why = self.unfit(info)
        if why is None:
            self.answered()
        else:
            self.availability.is_unfit(why)
        return info

    async def open(self, message: OpenSession, max_message_bytes: int) -> SessionLink:
        """Begin a session there; see `VerifierLink.open`."""
        try:
            stream = await self.link.open(message, max_message_bytes)
        except OutriderError as error:
            self.failed(error)
            raise
        self.num_open += 1
        return _MemberSession(stream, self)

    def answered(self) -> None:
        """It takes sessions."""
        if self.availability.state not in (State.READY, State.UNKNOWN):
            log.event(_logger, "verifier_is_back", verifier=self.address)
        self.availability.answered()

    def failed(self, error: OutriderError) -> None:
        """A call ended with an error."""
        before = self.availability.state
        self.availability.failed(error, self.clock())
        if self.availability.state is not before and before is not State.UNKNOWN:
            self._log_avoided()  # of one that was never met whoever wants it will tell

    def told_to_go(self, deadline_s: float) -> None:
        """It is about to end."""
        self.availability.told_to_go(self.clock(), deadline_s)
        self._log_avoided()

    def report(self) -> dict[str, Any]:
        """What a person may want to know of it."""
        info, estimates = self.info, self.estimators.estimates()
        return {
            "address": self.address,
            "state": self.availability.state.value,
            "why": self.availability.why or None,
            "model": info.model if info else None,
            "round_trip_s": self.round_trip_s or estimates.round_trip_s,
            "pass_s": estimates.pass_s,
            "num_running": info.occupancy.num_running if info else None,
            "num_waiting": info.occupancy.num_waiting if info else None,
            "num_open": self.num_open,
        }

    def _log_avoided(self) -> None:
        log.event(
            _logger,
            "verifier_avoided",
            level=logging.WARNING,
            verifier=self.address,
            state=self.availability.state.value,
            why=self.availability.why,
        )


class _MemberSession(WrappedSession):
    """A session that tells its member what became of it."""

    def __init__(self, stream: SessionLink, member: Member) -> None:
        super().__init__(stream)
        self._member = member
        self._is_closed = False

    @property
    def estimators(self) -> Estimators:
        return self._member.estimators

    async def receive(self) -> ServerEvent | None:
        try:
            event = await super().receive()
        except OutriderError as error:
            self._member.failed(error)
            raise
        match event:
            case Opened():
                self._member.answered()
            case GoAway():
                self._member.told_to_go(event.deadline_ms / 1000)
            case None:
                self._member.failed(UnavailableError("It ended a session."))
        return event

    def close(self) -> None:
        super().close()
        self._member.num_open -= not self._is_closed
        self._is_closed = True

    def give_up(self) -> None:
        super().give_up()
        self._member.failed(UnavailableError("It said nothing for too long."))
