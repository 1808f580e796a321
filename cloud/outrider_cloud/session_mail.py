"""What the verifier has yet to say in one session, in order, from whoever has something to say.

The engine commits, the end of the verifier is announced, pings are answered. Knows nothing of gRPC.
"""

import asyncio
from collections.abc import AsyncIterator

from outrider_cloud.engine import EngineEvent
from outrider_common.errors import OutriderError
from outrider_common.messages import Commit, Failure, GoAway, Pong, ServerEvent


class SessionMail:
    """The events of one session; of the event loop only.

    What waits is bounded: so many commits as the engine lets wait, one answer to all pings, a
    go-away and an error.

    Attributes:
        error: what ended the session, if an error did and it was said.
    """

    def __init__(self) -> None:
        self._events: asyncio.Queue[EngineEvent | GoAway | Pong] = asyncio.Queue()
        self._has_pong = False
        self.error: OutriderError | None = None

    def put(self, event: EngineEvent | GoAway) -> None:
        """Say something; what comes after the session's end is not said."""
        self._events.put_nowait(event)

    def answer_ping(self) -> None:
        """Say that the verifier is there."""
        if not self._has_pong:
            self._has_pong = True
            self._events.put_nowait(Pong())

    async def events(self) -> AsyncIterator[ServerEvent]:
        """What there is to say as it comes, until something ends the session."""
        while True:
            event = await self._events.get()
            match event:
                case OutriderError():
                    self.error = event
                    yield Failure(event)
                    return
                case Pong():
                    self._has_pong = False
            yield event
            if isinstance(event, Commit) and event.finish_reason is not None:
                return
