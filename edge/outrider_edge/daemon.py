"""The edge daemon: keeps a runtime, serves the HTTP API over it, and stops gracefully.

The composition root of `outrider edge serve`.
"""

import asyncio
import contextlib
import logging
import math
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import click
import uvicorn

from outrider_common import log
from outrider_common.config import Settings, TelemetrySettings
from outrider_common.errors import UnavailableError, ungrouped
from outrider_common.spans import Spans, spans_of
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.http_app import build_app
from outrider_edge.listening import address_of, listening_sockets
from outrider_edge.runtime import edge_runtime
from outrider_edge.serving import Identity, Serving
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore

_logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 5.0
"""How long the daemon waits before it tries again to reach the verifier, at first and at most."""

KEEP_ALIVE_S: Final = 75
"""Clients keep idle connections for about a minute; one that we close first costs them a retry."""

_LAST_WORDS_S: Final = 2.0
"""How long answers that were cut off may take to say so."""


async def serve(settings: Settings, store: ModelStore) -> None:
    """Run the daemon until SIGTERM or SIGINT; prints a line when it listens, one when it is ready.

    Raises:
        OutriderError: the bundle cannot be used, does not fit the verifier, or an address cannot
            be listened on.
    """
    bundle = Bundle.load(store.resolve_bundle(settings.edge.bundle))
    identity = Identity(settings.edge, bundle.path.name)
    serving = Serving(settings.daemon, settings.sampling, identity)
    with listening_sockets(settings.daemon) as sockets:
        server = http_server(serving)
        served = asyncio.Event()
        with ungrouped(), _stopping(serving, server):
            async with asyncio.TaskGroup() as tasks:
                keeper = _keep_runtime(serving, settings, bundle, store, served)
                keeping = tasks.create_task(keeper, name="runtime")
                click.echo(f"Edge listening on {' and '.join(map(address_of, sockets))}")
                await _serve(server, sockets, served)
                if serving.runtime is None:
                    keeping.cancel()
        log.event(_logger, "daemon_stopped")


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: `serve` has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(serving: Serving) -> uvicorn.Server:
    """An HTTP server over the state of a daemon; it listens on the sockets that it is given."""
    config = uvicorn.Config(
        build_app(serving),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(serving.settings.stop_grace_s + _LAST_WORDS_S),
    )
    return _Server(config)


async def _serve(
    server: uvicorn.Server, sockets: Sequence[socket.socket], served: asyncio.Event
) -> None:
    try:
        await server.serve(list(sockets))
    finally:
        served.set()


async def _keep_runtime(
    serving: Serving, settings: Settings, bundle: Bundle, store: ModelStore, served: asyncio.Event
) -> None:
    """Have a runtime until everything is served; until there is a verifier, try again."""
    calibrations = CalibrationStore(store.root / "calibrations")
    pause_s = FIRST_RETRY_S
    while serving.runtime is None:
        try:
            async with (
                _spans_of(settings.telemetry) as spans,
                edge_runtime(settings.edge, bundle, calibrations, spans) as runtime,
            ):
                serving.runtime = runtime
                click.echo(f"Edge ready: {runtime.info.model}, drafted by {bundle.path.name}")
                log.event(_logger, "daemon_ready", model=runtime.info.model)
                await served.wait()
        except UnavailableError as error:
            serving.waiting_for = str(error)
            log.event(_logger, "verifier_awaited", level=logging.WARNING, reason=str(error))
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LAST_RETRY_S)


@contextlib.asynccontextmanager
async def _spans_of(settings: TelemetrySettings) -> AsyncIterator[Spans]:
    with spans_of(settings, "outrider-edge") as spans:
        yield spans


@contextlib.contextmanager
def _stopping(serving: Serving, server: uvicorn.Server) -> Iterator[None]:
    """SIGTERM and SIGINT: no more requests, and an end to running ones; the second time at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        grace_s = 0.0 if serving.is_stopping else serving.settings.stop_grace_s
        serving.is_stopping = server.should_exit = True
        log.event(_logger, "daemon_stopping", grace_s=grace_s)
        loop.call_later(grace_s, serving.abort_all)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
