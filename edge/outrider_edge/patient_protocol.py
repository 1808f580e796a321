"""HTTP connections whose clients may take only so long to ask, and of which there are only so many.

Uvicorn's protocol waits for ever for the head of a request, and for the rest of a body once it is
answered. How long the body of a request that is being answered may take is up to who reads it.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

MAX_CONNECTIONS: Final = 1000
"""Further ones are closed at once."""


class PatientProtocol(H11Protocol):
    """One connection.

    Args:
        patience_s: for how long a client may keep it without a request that is being answered; it
            is asked each time. Between two requests, nothing of the second need come meanwhile.
        options: of Uvicorn's.
    """

    def __init__(self, *, patience_s: Callable[[], float], **options: Any) -> None:
        super().__init__(**options)
        self._patience_s = patience_s
        self._giving_up: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request, if there is room."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """More of a request, which may be whole now."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._rest()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Give up in a while, unless there is something to answer; more bytes are no more time."""
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none at first
        if cycle is not None and not cycle.response_complete:
            self._rest()
        elif self._giving_up is None:
            self._giving_up = self.loop.call_later(self._patience_s(), self.transport.close)

    def _rest(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None
