"""The verifier's composition root: builds target, engine and gRPC server, and runs them.

The one place that knows every class of the verifier.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tokenizers import Tokenizer

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import add_VerifierServiceServicer_to_server
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import Engine
from outrider_cloud.scheduler import PackingScheduler, Scheduler
from outrider_cloud.service import VerifierServicer
from outrider_cloud.target import Target
from outrider_cloud.torch_target import TorchTarget
from outrider_common import log
from outrider_common.config import VerifierSettings
from outrider_common.errors import ModelFileError, PortInUseError
from outrider_common.messages import Limits
from outrider_models.bundle import tokenizer_fingerprint

_logger = logging.getLogger(__name__)

SERVICE_NAME: Final = pb.DESCRIPTOR.services_by_name["VerifierService"].full_name
"""What health checks ask for."""

STOP_GRACE_S: Final = 5.0
"""How long running sessions may go on after the server was told to stop."""


def build_engine(settings: VerifierSettings, directory: Path) -> BatchingEngine:
    """Load the target from a model directory and put an engine around it.

    Raises:
        ModelFileError: the directory is not a usable model.
    """
    target = TorchTarget.load(directory, num_threads=settings.num_threads)
    scheduler = PackingScheduler(
        settings.rows_per_pass, settings.max_nodes_per_pass, settings.prefill_chunk_tokens
    )
    return engine_around(target, scheduler, settings, _fingerprint(directory))


def engine_around(
    target: Target, scheduler: Scheduler, settings: VerifierSettings, tokenizer_fingerprint: str
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
        software_version=version("outrider"),
    )


@contextlib.asynccontextmanager
async def running_server(engine: Engine, host: str, port: int) -> AsyncIterator[int]:
    """A gRPC server over an engine that runs already; yields the port that it listens on.

    Args:
        engine: verifies.
        host: address to listen on.
        port: 0 for any free one.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    server = grpc.aio.server(options=_server_options(engine.info.limits.max_message_bytes))
    add_VerifierServiceServicer_to_server(VerifierServicer(engine), server)  # type: ignore[no-untyped-call]
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    bound_port = _bind(server, host, port)
    await server.start()
    for name in ("", SERVICE_NAME):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield bound_port
    finally:
        await status.enter_graceful_shutdown()
        await server.stop(STOP_GRACE_S)


async def serve(settings: VerifierSettings, directory: Path) -> None:
    """Run the verifier until SIGTERM or SIGINT; prints one line when it is ready."""
    engine = build_engine(settings, directory)
    engine.start()
    try:
        async with running_server(engine, settings.host, settings.port) as port:
            click.echo(f"Verifier ready: {settings.model} on {settings.host}:{port}")
            log.event(_logger, "verifier_ready", host=settings.host, port=port)
            await _stop_signal()
            log.event(_logger, "verifier_stopping")
    finally:
        engine.stop()


def _server_options(max_message_bytes: int) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.so_reuseport", 0),  # else a second verifier could share the port unnoticed
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    )


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise PortInUseError(
            f"Cannot listen on {address}: the port is in use or the address is not this "
            "machine's; choose another with --port or --host (--port 0 takes any free one)."
        )
    return bound


async def _stop_signal() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await stopped.wait()


def _fingerprint(directory: Path) -> str:
    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare exceptions
        raise ModelFileError(
            f"The tokenizer '{path}' is missing or cannot be read; pull the model again."
        ) from error
    return tokenizer_fingerprint(tokenizer.get_vocab(with_added_tokens=True))
