"""The doctor's check of who could read along."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from certificates import DAY, Authority

from outrider_common.config_loading import load_settings
from outrider_edge.doctor.examination import Check, examine
from outrider_edge.doctor.findings import Finding, Grade
from outrider_edge.doctor.patient import Patient
from outrider_edge.doctor.security_checks import SECURITY_CHECKS

HOST = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def verifier(authority: Authority) -> AsyncIterator[str]:
    """Where something speaks TLS, with a certificate for ten days."""
    server = grpc.aio.server()
    pair = authority.issue("server", addresses=[HOST], ends=20 * DAY)
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())]
    )
    port = server.add_secure_port(f"{HOST}:0", credentials)
    await server.start()
    yield f"{HOST}:{port}"
    await server.stop(None)


async def finding(**edge: object) -> Finding:
    loaded = load_settings(flags={f"edge.{name}": str(value) for name, value in edge.items()})
    (check,) = SECURITY_CHECKS
    alone: Check[Patient] = dataclasses.replace(check, needs=())
    (found,) = [one async for one in examine(Patient(loaded), [alone])]
    return found


async def test_tls_with_certificates_that_last_is_good(authority: Authority, verifier: str) -> None:
    found = await finding(verifier=verifier, tls_ca=authority.ca)
    assert found.grade is Grade.PASS
    assert found.figures["verifier_certificate_days"] == pytest.approx(20, abs=0.1)


async def test_a_certificate_that_ends_soon_is_to_be_renewed(
    authority: Authority, verifier: str
) -> None:
    own = authority.issue("edge", ends=3 * DAY)
    own.key.chmod(0o600)
    files = {"tls_certificate": own.certificate, "tls_key": own.key}
    found = await finding(verifier=verifier, tls_ca=authority.ca, **files)
    assert found.grade is Grade.WARN
    assert "The edge's own certificate is good for 3 more days" in found.sentence


async def test_tls_that_does_not_come_about_is_a_sentence(
    authority: Authority, verifier: str, tmp_path: Path, unused_tcp_port: int
) -> None:
    other = Authority(tmp_path, "other")
    for address, ca in ((verifier, other.ca), (f"{HOST}:{unused_tcp_port}", authority.ca)):
        found = await finding(verifier=address, tls_ca=ca)
        assert found.grade is Grade.FAIL
        assert f"TLS with {address} does not come about" in found.sentence


async def test_files_that_cannot_be_used_are_named(authority: Authority, verifier: str) -> None:
    authority.ca.write_bytes(b"nothing")
    found = await finding(verifier=verifier, tls_ca=authority.ca)
    assert found.grade is Grade.FAIL
    assert "edge.tls_ca" in found.sentence


async def test_plain_text_to_another_machine_is_warned_of() -> None:
    assert (await finding(verifier="192.0.2.1:7411")).grade is Grade.WARN
    assert (await finding(verifier=f"{HOST}:7411")).grade is Grade.PASS


async def test_a_token_that_others_may_read_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    file.chmod(0o644)
    found = await finding(token_file=file)
    assert found.grade is Grade.WARN
    assert "chmod 600" in found.sentence
    file.chmod(0o600)
    assert (await finding(token_file=file)).grade is Grade.PASS
