"""The audit log: one event for each session, of who, how much and how it ended.

Counts what passes by. Never sees what was asked or answered in a form that it could log: of tokens
only their number is looked at.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from outrider_cloud.authentication import Caller
from outrider_cloud.engine import EngineEvent, Sink
from outrider_common import log
from outrider_common.errors import OutriderError
from outrider_common.messages import OpenSession

_logger = logging.getLogger(__name__)

_ABANDONED: Final = "abandoned"
"""The edge went away before the end."""


def write_audit_log() -> None:
    """Log the events of this module whatever the level of all others."""
    _logger.setLevel(logging.INFO)


class SessionAudit:
    """What is counted of one session.

    Args:
        clock: seconds, monotonic.

    Attributes:
        session_id: its name in all logs, as soon as it has one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.session_id = ""
        self._clock = clock
        self._began = clock()
        self._num_tokens = 0
        self._num_rows = 0
        self._outcome = _ABANDONED

    def counting(self, sink: Sink) -> Sink:
        """A sink that hands everything on, and counts it first."""

        def counted(event: EngineEvent) -> None:
            self._see(event)
            sink(event)

        return counted

    def log(self, caller: Caller, peer: str, model: str, message: OpenSession) -> None:
        """The event; see `audited`."""
        log.event(
            _logger,
            "session_audit",
            tenant=caller.tenant,
            shown=caller.shown,
            peer=peer,
            session=self.session_id,
            model=model,
            outcome=self._outcome,
            tokens_in=len(message.prefix),
            tokens_out=self._num_tokens,
            rows=self._num_rows,
            duration_s=round(self._clock() - self._began, 3),
        )

    def end(self, error: BaseException) -> None:
        """The session ended with an error."""
        if isinstance(error, OutriderError):
            self._outcome = error.reason.lower()
        elif not isinstance(error, asyncio.CancelledError):
            self._outcome = "failed"

    def _see(self, event: EngineEvent) -> None:
        if isinstance(event, OutriderError):
            self._outcome = event.reason.lower()
            return
        self._num_tokens += len(event.tokens)
        self._num_rows += event.num_rows
        if event.finish_reason is not None:
            self._outcome = event.finish_reason.value


@contextmanager
def audited(caller: Caller, peer: str, model: str, message: OpenSession) -> Iterator[SessionAudit]:
    """While a session is served; in the end there is one event.

    Args:
        caller: who asks.
        peer: the address from which.
        model: that answers.
        message: how the session was opened.
    """
    audit = SessionAudit()
    try:
        yield audit
    except BaseException as error:
        audit.end(error)
        raise
    finally:
        audit.log(caller, peer, model, message)
