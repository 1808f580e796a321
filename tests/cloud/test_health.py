"""The health port and the question whether a verifier serves, over real gRPC."""

import asyncio

import grpc
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health, health_pb2

from outrider.cli import root
from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_cloud.handlers import SERVICE_NAME
from outrider_cloud.health import ask_health, health_port
from outrider_common.errors import PortInUseError, UnavailableError

SERVING = health_pb2.HealthCheckResponse.SERVING


async def ask(port: int | None) -> None:
    await asyncio.to_thread(ask_health, f"127.0.0.1:{port}", 5.0)


async def test_the_health_port_tells_what_the_verifier_says_of_itself() -> None:
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]
    async with health_port(status, "127.0.0.1", 0) as port:
        with pytest.raises(UnavailableError, match="NOT_FOUND"):
            await ask(port)
        await status.set(SERVICE_NAME, SERVING)
        await ask(port)
        await status.enter_graceful_shutdown()
        with pytest.raises(UnavailableError, match="starting or draining"):
            await ask(port)


async def test_nothing_but_health_is_answered_there() -> None:
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]
    async with (
        health_port(status, "127.0.0.1", 0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        stub = VerifierServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetModelInfo(pb.GetModelInfoRequest())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_health_port_that_is_taken_is_named_with_the_remedy() -> None:
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]
    async with health_port(status, "127.0.0.1", 0) as port:
        with pytest.raises(PortInUseError, match=rf"127\.0\.0\.1:{port}.*--health-port"):
            async with health_port(status, "127.0.0.1", port):
                pass


async def test_without_a_health_port_there_is_none() -> None:
    async with health_port(None, "127.0.0.1", None) as port:
        assert port is None


def test_the_command_fails_with_one_sentence_where_nobody_answers() -> None:
    arguments = ["verifier", "health", "--address", "127.0.0.1:1", "--timeout-s", "5"]
    result = CliRunner().invoke(root, arguments)
    assert result.exit_code != 0
    assert "127.0.0.1:1" in str(result.exception)
