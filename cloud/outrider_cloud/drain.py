"""The end of a verifier: sessions are told to go on elsewhere, and waited for, up to a moment.

Knows nothing of gRPC, engines and signals.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from outrider_cloud.session_mail import SessionMail
from outrider_common import log
from outrider_common.errors import DrainingError
from outrider_common.messages import GoAway

_logger = logging.getLogger(__name__)

RETRY_AFTER_S: Final = 1.0
"""When an edge that knows only this verifier may look for the next one at its address."""

FAREWELL_S: Final = 6.0
"""How long sessions that are ended may take to hear of it: a little longer than streams linger."""


class Drain:
    """Whether the verifier is about to end, and which sessions there are.

    Args:
        grace_s: how long sessions may go on once it has begun.

    Attributes:
        begun: set when the verifier is about to end.
        all_gone: set while there are no sessions.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        self._grace_s = grace_s
        self._mails: set[SessionMail] = set()
        self.begun = asyncio.Event()
        self.all_gone = asyncio.Event()
        self.all_gone.set()
        self._is_cut_short = asyncio.Event()

    def refuse_if_begun(self) -> None:
        """Refuse a new session if the verifier is about to end.

        Raises:
            DrainingError: it is.
        """
        if self.begun.is_set():
            raise DrainingError(
                "The verifier is about to end and takes no sessions; use another one, or its "
                "successor.",
                retry_after_s=RETRY_AFTER_S,
            )

    @contextlib.contextmanager
    def session(self, mail: SessionMail) -> Iterator[None]:
        """A session is told of the end, and waited for."""
        self._mails.add(mail)
        self.all_gone.clear()
        try:
            yield
        finally:
            self._mails.discard(mail)
            if not self._mails:
                self.all_gone.set()

    def cut_short(self) -> None:
        """Wait for nobody any more."""
        self._is_cut_short.set()

    async def run(self) -> None:
        """Tell all sessions, wait until they are gone, and end those that are left."""
        self.begun.set()
        log.event(_logger, "drain_begun", num_sessions=len(self._mails), grace_s=self._grace_s)
        if self._grace_s and not self._is_cut_short.is_set():
            for mail in self._mails:
                mail.put(GoAway("The verifier is about to end.", round(self._grace_s * 1000)))
            await self._wait(self._grace_s)
        log.event(_logger, "drain_over", num_left=len(self._mails))
        for mail in self._mails:
            mail.put(
                DrainingError(
                    "The verifier has ended; open a new session elsewhere.",
                    retry_after_s=RETRY_AFTER_S,
                )
            )
        if not self._is_cut_short.is_set():
            await self._wait(FAREWELL_S)

    async def _wait(self, seconds: float) -> None:
        """Until all sessions are gone, or the time is over, or nobody is to be waited for."""
        waiting = [
            asyncio.create_task(self.all_gone.wait(), name="all-gone"),
            asyncio.create_task(self._is_cut_short.wait(), name="cut-short"),
        ]
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
