"""The channel over the real gRPC stack: what it shows, and how old ones come to an end."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import Authority

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import (
    VerifierServiceServicer,
    add_VerifierServiceServicer_to_server,
)
from outrider_common.errors import ConfigError
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.channel import VerifierChannel
from outrider_edge.link_security import NO_SECURITY, LinkSecurity

HOST = "127.0.0.1"


class Telling(VerifierServiceServicer):
    """Tells a caller in `model` what it showed; a session lasts until it is cancelled."""

    def __init__(self) -> None:
        self.peers: list[str] = []

    async def GetModelInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.peers.append(context.peer())
        shown = dict(context.invocation_metadata()).get("authorization", "nothing")
        return pb.GetModelInfoResponse(model=shown)

    async def Session(self, requests: Any, context: Any) -> None:  # noqa: N802
        await context.write(pb.SessionResponse())
        await asyncio.sleep(60)


@pytest.fixture(autouse=True)
def looks_at_files_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider_common.watched_files.LOOK_EVERY_S", 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[tuple[Telling, str, str]]:
    """A servicer, and where it is in plain text and by TLS."""
    running, servicer = grpc.aio.server(), Telling()
    add_VerifierServiceServicer_to_server(servicer, running)
    pair = authority.issue("server", addresses=[HOST])
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    )
    plain = running.add_insecure_port(f"{HOST}:0")
    secure = running.add_secure_port(f"{HOST}:0", credentials)
    await running.start()
    yield servicer, f"{HOST}:{plain}", f"{HOST}:{secure}"
    await running.stop(None)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def shown(channel: VerifierChannel) -> str:
    info = await channel.call("GetModelInfo", pb.GetModelInfoRequest(), timeout=10)
    return str(info.model)


async def test_a_token_is_shown_with_every_call(server: Any, tmp_path: Path) -> None:
    _, plain, _ = server
    file = write(tmp_path / "token", "one")
    channel = VerifierChannel(plain, (), LinkSecurity(token_file=file))
    assert await shown(channel) == "Bearer one"
    write(file, "another")
    assert await shown(channel) == "Bearer another"
    write(file, "no token")
    assert await shown(channel) == "Bearer another"
    await channel.close()


async def test_without_a_token_nothing_is_shown(server: Any) -> None:
    _, plain, _ = server
    channel = VerifierChannel(plain, (), NO_SECURITY)
    assert await shown(channel) == "nothing"
    await channel.close()


async def test_another_token_needs_no_other_connection(
    server: Any, authority: Authority, tmp_path: Path
) -> None:
    servicer, _, secure = server
    file = write(tmp_path / "token", "one")
    settings = EdgeSettings(tls_ca=authority.ca, token_file=file)
    channel = VerifierChannel(secure, (), LinkSecurity.of(settings))
    await shown(channel)
    write(file, "another")
    await shown(channel)
    assert len(set(servicer.peers)) == 1
    await channel.close()


async def test_new_certificates_get_a_new_connection_and_running_calls_keep_theirs(
    server: Any, authority: Authority
) -> None:
    servicer, _, secure = server
    pair = authority.issue("edge")
    settings = EdgeSettings(tls_ca=authority.ca, tls_certificate=pair.certificate, tls_key=pair.key)
    channel = VerifierChannel(secure, (), LinkSecurity.of(settings))
    session = channel.call("Session")
    await session.read()
    await shown(channel)
    authority.issue("edge")
    await shown(channel)
    await shown(channel)
    assert len(set(servicer.peers)) == 2
    assert len(channel._lines) == 2
    assert not session.done()
    session.cancel()
    with pytest.raises(asyncio.CancelledError):
        await session.read()
    for _ in range(100):
        if len(channel._lines) == 1:
            break
        await asyncio.sleep(0.01)
    assert len(channel._lines) == 1
    assert await shown(channel) == "nothing"
    await channel.close()


async def test_certificates_that_are_no_good_change_nothing(
    server: Any, authority: Authority
) -> None:
    servicer, _, secure = server
    kept = authority.ca.read_bytes()
    channel = VerifierChannel(secure, (), LinkSecurity.of(EdgeSettings(tls_ca=authority.ca)))
    await shown(channel)
    for broken in (b"", kept[: len(kept) // 2]):
        authority.ca.write_bytes(broken)
        await shown(channel)
    assert len(set(servicer.peers)) == 1
    await channel.close()


async def test_a_token_for_another_machine_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "token", "one")
    with pytest.raises(ConfigError, match="plain text"):
        VerifierChannel("verifier.example:7411", (), LinkSecurity(token_file=file))
