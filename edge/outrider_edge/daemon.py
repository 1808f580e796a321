"""The edge daemon: keeps a runtime, serves the HTTP API over it, and stops gracefully.

The composition root of `outrider edge serve`.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import click
import uvicorn

from outrider_common import log
from outrider_common.config import Settings
from outrider_common.errors import ConfigError, ungrouped
from outrider_common.service_manager import ServiceManager
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.spans import Spans, spans_of
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.fleet.memory import overlay_at_start
from outrider_edge.http_app import build_app
from outrider_edge.journal.desk import AnswerDesk
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.known_models import KnownModels
from outrider_edge.listening import address_of, listening_sockets
from outrider_edge.live_settings import LiveSettings
from outrider_edge.patient_protocol import PatientProtocol
from outrider_edge.policies import POLICIES
from outrider_edge.runtime import edge_runtime
from outrider_edge.runtime_keeper import NamedRuntime, OpenRuntime, RuntimeKeeper
from outrider_edge.service import cancelled, hangups, keep_alive, reload_when_asked
from outrider_edge.serving import Identity, Serving
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore

_logger = logging.getLogger(__name__)

KEEP_ALIVE_S: Final = 75
"""Clients keep idle connections for about a minute; one that we close first costs them a retry."""

_LAST_WORDS_S: Final = 2.0
"""How long answers that were cut off may take to say so."""


Reread = Callable[[], Settings]
"""Reads the device's own settings again; raises a `ConfigError` where they cannot be used."""


async def serve(settings: Settings, store: ModelStore, reread: Reread | None = None) -> None:
    """Run the daemon until SIGTERM or SIGINT; prints a line when it listens, one when it is ready.

    Args:
        settings: the device's own.
        store: where the drafter bundle is.
        reread: called on SIGHUP; None: the settings stay as they are.

    Raises:
        OutriderError: the bundle cannot be used, does not fit the verifier, or an address cannot
            be listened on.
    """
    overlay = overlay_at_start(settings, store)
    in_force = overlay.on(settings)
    _require_draft_model(in_force)
    bundle = Bundle.load(store.resolve_bundle(in_force.edge.bundle))
    identity = Identity(in_force.edge, bundle.path.name)
    answers = _answers(in_force.daemon, store)
    serving = Serving(in_force.daemon, in_force.sampling, identity, answers=answers)
    manager = ServiceManager.of(os.environ)
    with (
        spans_of(in_force.telemetry, "outrider-edge") as spans,
        listening_sockets(in_force.daemon) as sockets,
    ):
        opener = _opener(store, spans, begins_alone=in_force.daemon.offline == "draft-only")
        keeper = RuntimeKeeper(serving, in_force.edge, opener, partial(_say_ready, manager))
        live = LiveSettings(settings, overlay, serving, keeper)
        server = http_server(serving)
        served = asyncio.Event()
        with ungrouped(), _stopping(serving, server, manager), hangups() as hung_up:
            async with asyncio.TaskGroup() as tasks:
                keeping = tasks.create_task(keeper.run(served), name="runtime")
                beside = [
                    tasks.create_task(keep_alive(manager), name="watchdog"),
                    tasks.create_task(
                        reload_when_asked(live, reread or (lambda: settings), manager, hung_up),
                        name="reload",
                    ),
                    tasks.create_task(_steered(settings, store, serving, live), name="fleet"),
                    tasks.create_task(answers.run(), name="journal"),
                ]
                _say_listening(sockets, manager)
                await server.serve(list(sockets))
                await cancelled(beside)
                served.set()
                if serving.runtime is None:
                    keeping.cancel()
        log.event(_logger, "daemon_stopped")


def _require_draft_model(settings: Settings) -> None:
    """Refuse to promise that the drafter writes alone where there is none that could."""
    edge = settings.edge
    can_write = "lm" in edge.proposers and POLICIES[edge.policy].drafts
    if settings.daemon.offline == "draft-only" and not can_write:
        raise ConfigError(
            "daemon.offline is draft-only, but the draft model is not used "
            f"(edge.proposers {', '.join(edge.proposers)}, edge.policy {edge.policy}); add lm to "
            "edge.proposers and use a policy that drafts, or let requests queue."
        )


def _answers(settings: DaemonSettings, store: ModelStore) -> AnswerDesk:
    """Finds the answers to requests that come again."""
    bounds = Bounds(
        settings.journal_max_answers, settings.journal_max_bytes, settings.journal_max_age_s
    )
    directory = store.root / "journal" if settings.journal else None
    return AnswerDesk(Journal(directory, bounds), settings.journal_linger_s)


def _opener(store: ModelStore, spans: Spans, *, begins_alone: bool) -> OpenRuntime:
    """Opens runtimes with the bundles of a store; perhaps without a verifier, if one was met."""
    calibrations = CalibrationStore(store.root / "calibrations")
    known = KnownModels(store.root / "known_models.json") if begins_alone else None

    @contextlib.asynccontextmanager
    async def open_runtime(settings: EdgeSettings) -> AsyncIterator[NamedRuntime]:
        bundle = Bundle.load(store.resolve_bundle(settings.bundle))
        async with edge_runtime(settings, bundle, calibrations, spans, known) as runtime:
            yield NamedRuntime(runtime, bundle.path.name)

    return open_runtime


def _say_listening(sockets: Sequence[socket.socket], manager: ServiceManager) -> None:
    where = " and ".join(map(address_of, sockets))
    click.echo(f"Edge listening on {where}")
    manager.ready(f"Listening on {where}")


def _say_ready(manager: ServiceManager, named: NamedRuntime) -> None:
    model = named.runtime.info.model
    click.echo(f"Edge ready: {model}, drafted by {named.bundle}")
    manager.status(f"Ready: {model}, drafted by {named.bundle}")
    log.event(_logger, "daemon_ready", model=model)


async def _steered(
    settings: Settings, store: ModelStore, serving: Serving, live: LiveSettings
) -> None:
    """Let the fleet steer the daemon, where there is one."""
    if settings.fleet.broker is None:
        return
    from outrider_edge.fleet.device import steered  # needs the extra `mqtt`

    await steered(settings.fleet, store, serving, live)


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: `serve` has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def http_server(serving: Serving) -> uvicorn.Server:
    """An HTTP server over the state of a daemon; it listens on the sockets that it is given."""
    protocol: Any = partial(PatientProtocol, patience_s=lambda: serving.settings.client_timeout_s)
    config = uvicorn.Config(
        build_app(serving),
        http=protocol,
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


@contextlib.contextmanager
def _stopping(serving: Serving, server: uvicorn.Server, manager: ServiceManager) -> Iterator[None]:
    """SIGTERM and SIGINT: no more requests, and an end to running ones; the second time at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        grace_s = 0.0 if serving.is_stopping else serving.settings.stop_grace_s
        serving.is_stopping = server.should_exit = True
        manager.stopping()
        log.event(_logger, "daemon_stopping", grace_s=grace_s)
        loop.call_later(grace_s, serving.abort_all)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
