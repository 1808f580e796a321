"""TLS over the real gRPC stack, both sides: who is believed, who is not, and new certificates."""

import asyncio
import logging
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import DAY, Authority, Pair
from grpc_health.v1 import health_pb2, health_pb2_grpc
from secured_verifier import ANSWER, HOST, answer, link_to, opened, rest, secured_verifier

from outrider_cloud.security import load_security
from outrider_cloud.token_file import add_token
from outrider_cloud.transport_security import refuse_unsafe
from outrider_common.errors import ConfigError, UnauthenticatedError, UnavailableError
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.link_security import LinkSecurity

NAME = "verifier.example"
URI = "spiffe://example.org/edge/7"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Pair:
    return authority.issue("server", [NAME], addresses=[HOST])


@pytest.fixture
def client(authority: Authority) -> Pair:
    return authority.issue("client", uris=[URI])


@pytest.fixture(autouse=True)
def looks_at_files_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider_common.watched_files.LOOK_EVERY_S", 0.0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    event.set()
    yield event
    event.set()


def of(pair: Pair) -> dict[str, Path]:
    return {"tls_certificate": pair.certificate, "tls_key": pair.key}


def edge(**settings: Any) -> LinkSecurity:
    return LinkSecurity.of(EdgeSettings(**settings))


async def failure(address: str, security: LinkSecurity) -> str:
    """Why an edge gets no answer."""
    async with link_to(address, security) as link:
        with pytest.raises(UnavailableError) as caught:
            await answer(link)
        return str(caught.value)


async def certificate_shown(address: str, authority: Authority) -> dict[str, Any]:
    """What a verifier shows to new connections."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.set_alpn_protocols(["h2"])
    host, port = address.split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context, server_hostname=NAME)
    shown: dict[str, Any] = writer.get_extra_info("peercert")
    writer.close()
    return shown


async def test_an_edge_that_knows_the_authority_gets_the_text(
    authority: Authority, server: Pair
) -> None:
    async with (
        secured_verifier(**of(server)) as address,
        link_to(address, edge(tls_ca=authority.ca)) as link,
    ):
        assert await answer(link) == ANSWER


async def test_a_verifier_of_another_authority_is_not_believed(
    server: Pair, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other")
    async with secured_verifier(**of(server)) as address:
        assert "edge.tls_ca" in await failure(address, edge(tls_ca=other.ca))
        assert "edge.tls_ca" in await failure(address, edge(tls=True))


async def test_a_verifier_of_another_name_is_not_believed(
    authority: Authority, server: Pair
) -> None:
    async with secured_verifier(**of(server)) as address:
        wrong = edge(tls_ca=authority.ca, tls_server_name="elsewhere.example")
        assert "edge.tls_server_name" in await failure(address, wrong)
        right = edge(tls_ca=authority.ca, tls_server_name=NAME)
        async with link_to(address, right) as link:
            assert await answer(link) == ANSWER


async def test_an_expired_verifier_is_not_believed(
    authority: Authority, server: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired = authority.issue("expired", [NAME], addresses=[HOST], begins=-2 * DAY, ends=-DAY)
    with pytest.raises(ConfigError, match=r"expired\.pem has expired"):
        async with secured_verifier(**of(expired)):
            pass
    monkeypatch.setattr("outrider_common.tls_files._check_time", lambda *_: None)
    async with secured_verifier(**of(expired)) as address:
        assert "has expired" in await failure(address, edge(tls_ca=authority.ca))


async def test_plain_text_and_tls_do_not_meet(authority: Authority, server: Pair) -> None:
    async with secured_verifier(**of(server)) as address:
        assert "edge.tls" in await failure(address, edge())
    async with secured_verifier() as address:
        assert "speaks no TLS" in await failure(address, edge(tls_ca=authority.ca))


async def test_an_edge_with_a_certificate_is_known_by_its_name(
    authority: Authority, server: Pair, client: Pair, tmp_path: Path
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(f'[tenants.acme]\ncertificates = ["{URI}"]\n')
    settings = {**of(server), "tls_client_ca": authority.ca, "tenants": tenants}
    stranger = authority.issue("stranger", ["stranger.example"])
    async with secured_verifier(**settings) as address:
        async with link_to(address, edge(tls_ca=authority.ca, **of(client))) as link:
            assert await answer(link) == ANSWER
        async with link_to(address, edge(tls_ca=authority.ca, **of(stranger))) as link:
            with pytest.raises(UnauthenticatedError, match=r"stranger\.example"):
                await answer(link)


async def test_an_edge_may_have_its_certificate_from_an_authority_below_the_known_one(
    authority: Authority, server: Pair, tmp_path: Path
) -> None:
    below = Authority(tmp_path, "below", above=authority).issue("edge-of-below", uris=[URI])
    async with (
        secured_verifier(**of(server), tls_client_ca=authority.ca) as address,
        link_to(address, edge(tls_ca=authority.ca, **of(below))) as link,
    ):
        assert await answer(link) == ANSWER


async def test_an_edge_without_a_certificate_of_the_authority_is_hung_up_on(
    authority: Authority, server: Pair, client: Pair, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "other").issue("imposter", uris=[URI])
    async with secured_verifier(**of(server), tls_client_ca=authority.ca) as address:
        for security in (edge(tls_ca=authority.ca), edge(tls_ca=authority.ca, **of(other))):
            assert "edge.tls_certificate" in await failure(address, security)
        async with link_to(address, edge(tls_ca=authority.ca, **of(client))) as link:
            assert await answer(link) == ANSWER


async def test_a_new_certificate_is_shown_without_a_break(
    authority: Authority, server: Pair, gate: threading.Event
) -> None:
    async with secured_verifier(gate, **of(server)) as address:
        security = edge(tls_ca=authority.ca)
        async with link_to(address, security) as link:
            before = await certificate_shown(address, authority)
            gate.clear()
            session = await opened(link)
            authority.issue("server", [NAME], addresses=[HOST])
            after = await certificate_shown(address, authority)
            assert before["serialNumber"] != after["serialNumber"]
            async with link_to(address, security) as newcomer:
                gate.set()
                assert await answer(newcomer) == ANSWER
            assert await rest(session) == ANSWER


async def test_a_half_replaced_certificate_changes_nothing_and_is_logged(
    authority: Authority, server: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    async with secured_verifier(**of(server)) as address:
        before = await certificate_shown(address, authority)
        old_key = server.key.read_bytes()
        authority.issue("server", [NAME], addresses=[HOST])
        new_key = server.key.read_bytes()
        server.key.write_bytes(old_key)
        with caplog.at_level(logging.ERROR):
            assert await certificate_shown(address, authority) == before
        assert "files_not_reloaded" in caplog.text
        server.key.write_bytes(new_key)
        assert await certificate_shown(address, authority) != before


async def test_an_edge_follows_its_certificates_without_a_break(
    authority: Authority, server: Pair, client: Pair, gate: threading.Event, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(authority.ca.read_bytes())
    settings = {**of(server), "tls_client_ca": both}
    async with (
        secured_verifier(gate, **settings) as address,
        link_to(address, edge(tls_ca=both, **of(client))) as link,
    ):
        gate.clear()
        session = await opened(link)
        successor = Authority(tmp_path, "successor")
        both.write_bytes(successor.ca.read_bytes())
        successor.issue("server", [NAME], addresses=[HOST])
        successor.issue("client", uris=[URI])
        second = await opened(link)  # nothing of the old authority counts any more
        gate.set()
        assert await rest(session) == ANSWER
        assert await rest(second) == ANSWER
        assert await answer(link) == ANSWER


async def test_a_port_of_its_own_tells_health_to_probes_without_tls(
    authority: Authority, server: Pair, unused_tcp_port: int
) -> None:
    settings = {**of(server), "tls_client_ca": authority.ca, "health_port": unused_tcp_port}
    async with (
        secured_verifier(**settings),
        grpc.aio.insecure_channel(f"{HOST}:{unused_tcp_port}") as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        answered = await health.Check(health_pb2.HealthCheckRequest())
        assert answered.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/outrider.v1.VerifierService/GetModelInfo")(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_authorities_without_a_certificate_of_our_own_are_refused(authority: Authority) -> None:
    settings = VerifierSettings(tls_client_ca=authority.ca)
    with pytest.raises(ConfigError, match=r"verifier\.tls_certificate and verifier\.tls_key"):
        load_security(settings)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_others_can_reach_needs_tls_and_names(host: str, tmp_path: Path) -> None:
    pair = {"tls_certificate": tmp_path / "c", "tls_key": tmp_path / "k"}
    tenants, authorities = {"tenants": tmp_path / "t"}, {"tls_client_ca": tmp_path / "a"}
    remedies = ("no TLS", "no way to know who asks")
    for settings, missing in (
        ({}, remedies),
        (pair, remedies[1:]),
        (tenants, remedies[:1]),
        (authorities, remedies[:1]),
    ):
        with pytest.raises(ConfigError) as caught:
            refuse_unsafe(VerifierSettings(host=host, **settings))
        sentence = str(caught.value)
        assert [one for one in remedies if one in sentence] == list(missing)
        assert "127.0.0.1" in sentence
        assert "--insecure" in sentence
    for settings in ({**pair, **tenants}, {**pair, **authorities}, {"insecure": True}):
        refuse_unsafe(VerifierSettings(host=host, **settings))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_a_host_that_only_this_machine_can_reach_needs_nothing(host: str) -> None:
    refuse_unsafe(VerifierSettings(host=host))


async def test_a_token_travels_over_tls(authority: Authority, server: Pair, tmp_path: Path) -> None:
    tenants, token_file = tmp_path / "tenants.toml", tmp_path / "token"
    token_file.write_text(add_token(tenants, "acme").text)
    async with secured_verifier(**of(server), tenants=tenants) as address:
        security = edge(tls_ca=authority.ca, token_file=token_file)
        async with link_to(address, security) as link:
            assert await answer(link) == ANSWER
        async with link_to(address, edge(tls_ca=authority.ca)) as link:
            with pytest.raises(UnauthenticatedError):
                await answer(link)
