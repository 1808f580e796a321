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
async def a_daemon_client(
    serving: Serving, socket: Path | None = None
) -> AsyncIterator[DaemonClient]:
    """A client of a server over this state, which stops in the end."""
    with listening_sockets(serving.settings) as sockets:
        server = http_server(serving)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets))
            try:
                port = sockets[0].getsockname()[1]
                yield DaemonClient(DaemonAddress("127.0.0.1", port, socket))
            finally:
                server.should_exit = True
