"""The verifier's composition root: builds target, engine and gRPC server, and runs them.

The one place that knows every class of the verifier.
"""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tokenizers import Tokenizer

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.binding import bind
from outrider_cloud.connection_limits import NO_LIMITS, ConnectionLimits
from outrider_cloud.device_drafter import DeviceDrafter
from outrider_cloud.drain import Drain
from outrider_cloud.engine import Engine
from outrider_cloud.engine_stats import EngineStats
from outrider_cloud.handlers import SERVICE_NAME, add_to_server
from outrider_cloud.health import health_port
from outrider_cloud.metrics_endpoint import offered_metrics
from outrider_cloud.own_guesses import OwnGuesses
from outrider_cloud.recorded_target import RecordedTarget
from outrider_cloud.scheduler import PackingLimits, PackingScheduler, Scheduler, SchedulingPolicy
from outrider_cloud.security import NO_SECURITY, ServerSecurity, load_security
from outrider_cloud.service import VerifierServicer
from outrider_cloud.service_watch import watched_service
from outrider_cloud.session import MakeGuesses
from outrider_cloud.starting import say
from outrider_cloud.synthetic_target import SyntheticTarget
from outrider_cloud.target import CPU_KV_CACHE_MIB, Target
from outrider_cloud.verifier_metrics import VerifierCollector
from outrider_common import log
from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import (
    ModelFileError,
    UnavailableError,
)
from outrider_common.messages import Limits
from outrider_common.recording import Recording
from outrider_common.settings.telemetry import TelemetrySettings
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.spans import NO_SPANS, Spans, spans_of
from outrider_common.synthetic import SyntheticSpec
from outrider_models.bundle import tokenizer_fingerprint
from outrider_models.store import ModelStore

_logger = logging.getLogger(__name__)

SYNTHETIC_PAGE_TOKENS: Final = 16
"""Tokens of a page of a synthetic target, or a recorded one."""

RECORDED_KV_BYTES: Final = 1024
"""What a recorded target says that its KV cache takes for a token."""

KEEPALIVE_MS: Final = 10_000
"""An edge from which nothing comes for so long is asked, by HTTP/2's own pings, whether it is
there; without an answer for as long again, its connection is closed, and its sessions are over."""

HANDSHAKE_MS: Final = 20_000
"""How long a connection may take to say in TLS and HTTP/2 that it is one."""

STOP_GRACE_S: Final = 1.0
"""How long calls that are left when all sessions were told may take to end."""

COLLECTION_THRESHOLDS: Final = (20_000, 20, 50)
"""New objects until the garbage collector looks at them, and how often it does so until it looks at
older ones: what sessions leave behind is freed without it, and to look at all that 5,500 sessions
hold takes it 75 ms, in which nothing else runs."""

NO_TELEMETRY: Final = TelemetrySettings()


def build_engine(settings: VerifierSettings, store: ModelStore) -> BatchingEngine:
    """Put an engine around the target that the settings name.

    Raises:
        ConfigError: a setting that cannot be used here.
        ModelFileError: the model is not there, or not usable.
        UnsupportedError: a model that is not known here, or a kernel that cannot be compiled.
    """
    if SyntheticSpec.is_meant_by(settings.model):
        return _synthetic_engine(settings)
    if Recording.is_meant_by(settings.model):
        return _recorded_engine(settings)
    from outrider_cloud.target_loading import load_target  # torch takes seconds to import

    directory = store.resolve_model(settings.model)
    target = load_target(settings, directory, store.root / "kernels")
    return engine_around(target, packing_scheduler(settings), settings, _fingerprint(directory))


def _synthetic_engine(settings: VerifierSettings) -> BatchingEngine:
    """Around a synthetic target; with a drafter on its device, if the spec has one."""
    spec = SyntheticSpec.parse(settings.model)
    num_pages = _num_pages(settings, spec.kv_bytes)
    around = partial(
        engine_around,
        scheduler=packing_scheduler(settings),
        settings=settings,
        tokenizer_fingerprint=spec.tokenizer_fingerprint,
    )
    if not spec.has_drafter:
        return around(SyntheticTarget(spec, num_pages, SYNTHETIC_PAGE_TOKENS))
    drafter = DeviceDrafter(spec)
    target = SyntheticTarget(spec, num_pages, SYNTHETIC_PAGE_TOKENS, other_work=drafter.settle)
    return around(target, make_guesses=drafter.guesses)


def _recorded_engine(settings: VerifierSettings) -> BatchingEngine:
    """Around a recorded target."""
    recording = Recording.named(settings.model)
    num_pages = _num_pages(settings, RECORDED_KV_BYTES)
    target = RecordedTarget(recording, num_pages, SYNTHETIC_PAGE_TOKENS, RECORDED_KV_BYTES)
    return engine_around(target, packing_scheduler(settings), settings, recording.tokenizer)


def _num_pages(settings: VerifierSettings, kv_bytes: int) -> int:
    """Of a target that only says what its cache takes, in bytes for a token."""
    num_bytes = (settings.kv_cache_mib or CPU_KV_CACHE_MIB) << 20
    return num_bytes // (kv_bytes * SYNTHETIC_PAGE_TOKENS)


def packing_scheduler(settings: VerifierSettings) -> PackingScheduler:
    """The scheduler that the settings describe."""
    limits = PackingLimits(
        rows_per_pass=settings.rows_per_pass,
        max_nodes_per_session=settings.max_nodes_per_pass,
        prefill_chunk_tokens=settings.prefill_chunk_tokens,
        max_credit=settings.max_nodes_per_session,
        max_draft_wait_s=settings.max_draft_wait_ms / 1000,
        max_pass_s=settings.max_pass_ms / 1000,
    )
    return PackingScheduler(limits, SchedulingPolicy(settings.policy))


def engine_around(
    target: Target,
    scheduler: Scheduler,
    settings: VerifierSettings,
    tokenizer_fingerprint: str,
    make_guesses: MakeGuesses = OwnGuesses,
) -> BatchingEngine:
    """An engine for a target, with the limits that the settings announce."""
    return BatchingEngine(
        target,
        scheduler,
        model=settings.model,
        tokenizer_fingerprint=tokenizer_fingerprint,
        limits=Limits(
            max_message_bytes=settings.max_message_bytes,
            max_outstanding_nodes=settings.max_nodes_per_session,
            committed_id_window=settings.committed_id_window,
            max_sessions=settings.max_sessions,
        ),
        max_waiting_sessions=settings.max_waiting_sessions,
        max_own_guesses=settings.own_guesses,
        make_guesses=make_guesses,
        shadow_rate=settings.shadow_rate,
        share_prefixes=settings.share_prefixes,
        software_version=version("outrider"),
        acceptance_modes=[AcceptanceMode(name) for name in settings.acceptance_modes],
    )


@contextlib.asynccontextmanager
async def running_server(
    engine: Engine,
    host: str,
    port: int,
    security: ServerSecurity = NO_SECURITY,
    *,
    drain: Drain | None = None,
    spans: Spans = NO_SPANS,
    limits: ConnectionLimits = NO_LIMITS,
) -> AsyncIterator[int]:
    """A gRPC server over an engine that runs already; yields the port that it listens on.

    Args:
        engine: verifies.
        host: address to listen on.
        port: 0 for any free one.
        security: who is let in, and how.
        drain: how its sessions end; at once if None.
        spans: where sessions are traced.
        limits: of connections.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    own = _server_options(engine.info.limits.max_message_bytes)
    options = (*own, *security.options, *limits.options)
    server = grpc.aio.server(interceptors=security.gates, options=options)
    drain = drain or Drain()
    servicer = VerifierServicer(engine, drain, security.usage, spans, limits.slow_reader_s)
    add_to_server(servicer, server)
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    bound_port = bind(
        server,
        host,
        port,
        security.credentials,
        purpose="listen",
        remedy="choose another with --port or --host (--port 0 takes any free one).",
    )
    async with health_port(status, host, security.health_port):
        await server.start()
        for name in ("", SERVICE_NAME):
            await status.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield bound_port
        finally:
            await status.enter_graceful_shutdown()
            await drain.run()
            await server.stop(STOP_GRACE_S)


async def serve(
    settings: VerifierSettings,
    store: ModelStore,
    telemetry: TelemetrySettings = NO_TELEMETRY,
) -> None:
    """Run the verifier until SIGTERM or SIGINT; prints one line when it is ready.

    Raises:
        OutriderError: the target cannot be loaded, or the address not be listened on.
        UnavailableError: the engine has failed; all sessions were told.
    """
    security = load_security(settings)
    say(f"Loading {settings.model} ...")
    engine = build_engine(settings, store)
    say(f"{_room(engine.stats)} Warming up ...")
    engine.warm_up(settings.rows_per_pass)
    leave_to_stay()
    drain = Drain(settings.drain_grace_s)
    stopped = _stop_signal(drain)
    failed = asyncio.Event()
    engine.start(partial(asyncio.get_running_loop().call_soon_threadsafe, failed.set))
    try:
        host, guards = settings.host, security(engine)
        async with (
            _watched(engine, settings, telemetry) as spans,
            running_server(
                engine,
                host,
                settings.port,
                guards,
                drain=drain,
                spans=spans,
                limits=ConnectionLimits.of(settings),
            ) as port,
        ):
            click.echo(f"Verifier ready: {settings.model} on {settings.host}:{port}")
            log.event(_logger, "verifier_ready", host=settings.host, port=port)
            async with watched_service(f"Ready: {settings.model}"):
                await _first_of(stopped, failed)
            log.event(_logger, "verifier_stopping", failed=failed.is_set())
    finally:
        engine.stop()
    if failed.is_set():
        raise UnavailableError("The verifier's engine has failed; its log says why. Start it anew.")


@contextlib.asynccontextmanager
async def _watched(
    engine: BatchingEngine, settings: VerifierSettings, telemetry: TelemetrySettings
) -> AsyncIterator[Spans]:
    """Metrics and traces of an engine, as configured."""
    collector = VerifierCollector(engine)
    with (
        offered_metrics(collector, settings.metrics_host, settings.metrics_port),
        spans_of(telemetry, "outrider-verifier") as spans,
    ):
        yield spans


def leave_to_stay() -> None:
    """Take all that is there now for what stays: the garbage collector looks at it no more.

    Else it stops all threads every now and then to go through every object of the libraries, which
    takes it longer than a pass. For the same reason it looks seldom at what sessions hold.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTION_THRESHOLDS)


def _room(stats: EngineStats) -> str:
    num_pages = stats.pages.num_pages
    return (
        f"KV cache: room for {num_pages * stats.page_tokens} tokens in "
        f"{num_pages * stats.bytes_per_page >> 20} MiB."
    )


def _server_options(max_message_bytes: int) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.so_reuseport", 0),  # else a second verifier could share the port unnoticed
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.http2.bdp_probe", 0),  # windows are never full: see the edge's link
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),  # else a session that waits is not watched
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS),
    )


def _stop_signal(drain: Drain) -> asyncio.Event:
    """Set by SIGTERM and SIGINT; a second one cuts the drain short."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopped.is_set():
            drain.cut_short()
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopped


async def _first_of(*events: asyncio.Event) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _fingerprint(directory: Path) -> str:
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise ModelFileError(
            f"The tokenizer '{path}' is missing or cannot be read; pull the model again."
        ) from error
    return tokenizer_fingerprint(tokenizer.get_vocab(with_added_tokens=True))
