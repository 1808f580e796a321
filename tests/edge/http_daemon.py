"""The daemon's HTTP server on real sockets, and a client of ours for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from outrider_edge.daemon import http_server
from outrider_edge.daemon_client import DaemonAddress, DaemonClient
from outrider_edge.listening import listening_sockets
from outrider_edge.serving import Serving


@asynccontextmanager
async def listening(serving: Serving) -> AsyncIterator[int]:
    """A server over this state; yields its port. Stops gracefully in the end."""
    with listening_sockets(serving.settings) as sockets:
        port: int = sockets[0].getsockname()[1]
        server = http_server(serving)
        serving_task = asyncio.create_task(server.serve(sockets))
        try:
            yield port
        finally:  # also when the test fails: a server that is cancelled leaves connections behind
            server.should_exit = True
            await serving_task


@asynccontextmanager
async def a_daemon_client(
    serving: Serving, socket: Path | None = None
) -> AsyncIterator[DaemonClient]:
    """A client of a server over this state, which stops in the end."""
    async with listening(serving) as port:
        yield DaemonClient(DaemonAddress("127.0.0.1", port, socket))
