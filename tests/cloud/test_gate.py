"""The gate over the real gRPC stack: nobody unknown gets past it, and nobody known too far."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from secured_verifier import ANSWER, MODEL, answer, link_to, opened, rest, secured_verifier

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_cloud.bearer_tokens import make_token
from outrider_cloud.failed_attempts import BURST
from outrider_cloud.token_file import add_token
from outrider_common.errors import (
    CapacityError,
    PermissionDeniedError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)
from outrider_common.messages import Opened, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_edge.link_security import LinkSecurity


@pytest.fixture
def tenants(tmp_path: Path) -> Path:
    file = tmp_path / "tenants.toml"
    file.write_text(
        """
[tenants.small]
max_sessions = 1
max_held_tokens = 20
[tenants.slow]
sessions_per_s = 0.01
[tenants.elsewhere]
models = ["another"]
"""
    )
    return file


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    event.set()
    yield event
    event.set()


@pytest.fixture
async def address(tenants: Path, gate: threading.Event) -> AsyncIterator[str]:
    add_token(tenants, "acme")
    async with secured_verifier(gate, tenants=tenants) as where:
        yield where


@pytest.fixture(autouse=True)
def looks_at_files_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider_common.watched_files.LOOK_EVERY_S", 0.0)


def write(path: Path, text: str) -> str:
    """Write a file; what stood there before."""
    before = path.read_text()
    path.write_text(text)
    return before


def showing(token: str, file: Path) -> LinkSecurity:
    file.write_text(f"{token}\n")
    return LinkSecurity(token_file=file)


def of_tenant(tenants: Path, name: str) -> LinkSecurity:
    """What an edge shows that has a new token of a tenant."""
    return showing(add_token(tenants, name).text, tenants.parent / name)


async def test_who_has_a_token_gets_the_text(address: str, tenants: Path) -> None:
    async with link_to(address, of_tenant(tenants, "acme")) as link:
        assert (await link.model_info()).model == MODEL
        assert await answer(link) == ANSWER


@pytest.mark.parametrize("token", ["nonsense", make_token().text])
async def test_who_has_a_wrong_token_gets_nothing(address: str, tmp_path: Path, token: str) -> None:
    async with link_to(address, showing(token, tmp_path / "token")) as link:
        with pytest.raises(UnauthenticatedError, match="does not know the bearer token"):
            await link.model_info()
        with pytest.raises(UnauthenticatedError):
            await answer(link)


async def test_who_shows_nothing_gets_nothing(address: str) -> None:
    async with link_to(address) as link:
        with pytest.raises(UnauthenticatedError, match="who asks"):
            await link.model_info()
        with pytest.raises(UnauthenticatedError):
            await answer(link)


@pytest.mark.parametrize(
    "metadata",
    [
        (("authorization", "Basic dXNlcjpwYXNz"),),
        (("authorization", ""),),
        (("authorization", "Bearer"),),
        (("authorization", "Bearer  "),),
        (("authorization-bin", b"\x00\xff"),),
    ],
)
async def test_other_credentials_are_none(address: str, metadata: Any) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = VerifierServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModelInfo(pb.GetModelInfoRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_health_is_open_to_all_and_nothing_else_is(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answered = await health.Check(health_pb2.HealthCheckRequest())
        assert answered.status == health_pb2.HealthCheckResponse.SERVING
        for method in ("/grpc.health.v1.Healthy/Check", "/outrider.v1.VerifierService/Other"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(method)(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_tenant_cannot_use_the_models_of_others(address: str, tenants: Path) -> None:
    async with link_to(address, of_tenant(tenants, "elsewhere")) as link:
        for attempt in (link.model_info(), answer(link)):
            with pytest.raises(PermissionDeniedError, match="'elsewhere' may not use 'fake'"):
                await attempt


async def test_a_new_token_is_good_at_once_and_a_revoked_one_no_more(
    address: str, tenants: Path
) -> None:
    async with link_to(address, of_tenant(tenants, "acme")) as link:
        assert await answer(link) == ANSWER
        kept = write(tenants, "[tenants.acme]\n")
        with pytest.raises(UnauthenticatedError):
            await answer(link)
        write(tenants, kept)
        assert await answer(link) == ANSWER


async def test_an_edge_follows_its_token_file(address: str, tenants: Path, tmp_path: Path) -> None:
    async with link_to(address, of_tenant(tenants, "acme")) as link:
        assert await answer(link) == ANSWER
        write(tenants, "[tenants.acme]\n")
        new = add_token(tenants, "acme")
        with pytest.raises(UnauthenticatedError):
            await answer(link)
        write(tmp_path / "acme", new.text)
        assert await answer(link) == ANSWER


async def test_a_tenants_file_that_is_no_good_changes_nothing(
    address: str, tenants: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with link_to(address, of_tenant(tenants, "acme")) as link:
        assert await answer(link) == ANSWER
        write(tenants, "[tenants")
        assert await answer(link) == ANSWER
        assert "files_not_reloaded" in caplog.text


async def test_a_running_session_outlives_its_token(
    address: str, tenants: Path, gate: threading.Event
) -> None:
    async with link_to(address, of_tenant(tenants, "acme")) as link:
        gate.clear()
        session = await opened(link)
        write(tenants, "[tenants.acme]\n")
        gate.set()
        assert await rest(session) == ANSWER


async def test_a_tenant_has_no_more_sessions_than_it_may(
    address: str, tenants: Path, gate: threading.Event
) -> None:
    async with link_to(address, of_tenant(tenants, "small")) as link:
        gate.clear()
        session = await opened(link)
        with pytest.raises(QuotaError, match="all 1 sessions") as caught:
            await answer(link)
        assert caught.value.retry_after_s == 1.0
        async with link_to(address, of_tenant(tenants, "acme")) as other:
            second = await opened(other)
            gate.set()
            assert await rest(second) == ANSWER
        assert await rest(session) == ANSWER


async def test_a_place_is_free_again_when_its_session_has_ended(
    address: str, tenants: Path
) -> None:
    async with link_to(address, of_tenant(tenants, "small")) as link:
        for _ in range(3):
            assert await answer(link) == ANSWER


async def test_a_vanished_edge_leaves_its_place(
    address: str, tenants: Path, gate: threading.Event
) -> None:
    async with link_to(address, of_tenant(tenants, "small")) as link:
        gate.clear()
        (await opened(link)).close()
        gate.set()
        for _ in range(200):
            try:
                assert await answer(link) == ANSWER
            except QuotaError:
                await asyncio.sleep(0.01)
            else:
                return
        raise AssertionError("the place was never given back")


async def test_sessions_are_opened_no_faster_than_allowed(address: str, tenants: Path) -> None:
    async with link_to(address, of_tenant(tenants, "slow")) as link:
        assert await answer(link) == ANSWER
        with pytest.raises(QuotaError, match=r"0\.01 sessions a second") as caught:
            await answer(link)
        assert caught.value.retry_after_s == pytest.approx(100, abs=5)


async def test_a_session_that_would_hold_too_much_is_refused_before_it_runs(
    address: str, tenants: Path
) -> None:
    write(tenants, "[tenants.small]\nmax_held_tokens = 14\n")
    async with link_to(address, of_tenant(tenants, "small")) as link:
        with pytest.raises(QuotaError, match="up to 15 tokens"):
            await answer(link)


async def test_who_fails_too_often_is_told_to_be_quiet_and_others_are_not(
    address: str, tenants: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = of_tenant(tenants, "acme")
    async with link_to(address, good) as known, link_to(address) as unknown:
        assert await answer(known) == ANSWER
        with caplog.at_level(logging.WARNING):
            for _ in range(int(BURST)):
                with pytest.raises(UnauthenticatedError):
                    await unknown.model_info()
            for _ in range(5):
                with pytest.raises(CapacityError, match="nobody vouches for") as caught:
                    await unknown.model_info()
        assert caught.value.retry_after_s is not None
        assert caplog.text.count("request_refused") == int(BURST)
        assert await answer(known) == ANSWER  # from the same address


async def test_too_much_metadata_is_refused(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = VerifierServiceStub(channel)
        metadata = (("authorization", "Bearer " + "x" * 10_000),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetModelInfo(pb.GetModelInfoRequest(), metadata=metadata, timeout=10)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_tenant_without_rows_left_waits_and_others_do_not(
    address: str, tenants: Path
) -> None:
    write(tenants, "[tenants.starved]\nrows_per_s = 0.001\n")
    starved, acme = of_tenant(tenants, "starved"), of_tenant(tenants, "acme")
    async with link_to(address, starved) as link, link_to(address, acme) as other:
        session = await opened(link)
        assert await answer(other) == ANSWER
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rest(session), timeout=0.2)


async def test_messages_that_come_too_fast_are_read_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider_cloud.service.OPEN_TIMEOUT_S", 0.2)
    message = OpenSession((1,) * 40, 40, 4, SamplingParams(), "v1:fake", ignore_eos=True)
    async with secured_verifier(max_messages_per_s=0.001) as address, link_to(address) as link:
        session = await link.open(message, 128)  # in parts
        with pytest.raises(UnavailableError, match="not opened within"):
            await session.receive()
    async with secured_verifier() as address, link_to(address) as link:
        session = await link.open(message, 128)
        assert isinstance(await session.receive(), Opened)
