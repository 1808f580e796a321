"""Certificates and keys: what can be used is read, what cannot is one sentence."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import DAY, Authority, Pair, key_pem
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from outrider_common.errors import ConfigError
from outrider_common.tls_files import Presenter, TlsFiles, TlsMaterial, read_tls_files

ADDRESS = "127.0.0.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files(
    pair: Pair | None = None, ca: Path | None = None, presenter: Presenter = Presenter.SERVER
) -> TlsFiles:
    return TlsFiles(
        section="verifier",
        presenter=presenter,
        certificate=pair.certificate if pair else None,
        key=pair.key if pair else None,
        authorities=ca,
        authorities_setting="tls_client_ca",
    )


def refusal(wanted: TlsFiles, clock: Callable[[], float] = time.time) -> str:
    with pytest.raises(ConfigError) as caught:
        read_tls_files(wanted, clock)
    return str(caught.value)


def test_a_good_pair_is_read_with_its_names_and_its_end(authority: Authority) -> None:
    pair = authority.issue("a", ["a.example"], ["spiffe://e/a"], [ADDRESS], ends=2 * DAY)
    material = read_tls_files(files(pair, authority.ca))
    assert material.certificate == pair.certificate.read_bytes()
    assert material.key == pair.key.read_bytes()
    assert material.authorities == authority.ca.read_bytes()
    assert set(material.names) == {"a.example", "spiffe://e/a", ADDRESS}
    assert material.expires_at == pytest.approx(time.time() + 2 * 86400, abs=60)


def test_a_key_is_never_printed(authority: Authority) -> None:
    material = read_tls_files(files(authority.issue("a")))
    assert "PRIVATE KEY" not in repr(material)


def test_nothing_named_is_nothing_read() -> None:
    assert read_tls_files(files()) == TlsMaterial(None, None, None)


def test_a_certificate_for_clients_only_is_good_for_clients_only(authority: Authority) -> None:
    pair = authority.issue("c", ["c.example"], usages=[ExtendedKeyUsageOID.CLIENT_AUTH])
    assert read_tls_files(files(pair, presenter=Presenter.CLIENT)).names == ("c.example",)
    assert "made for a server" in refusal(files(pair))


def test_half_a_pair_names_the_other_half(authority: Authority) -> None:
    pair = authority.issue("a")
    wanted = files(pair)
    alone = TlsFiles(
        "edge", Presenter.CLIENT, wanted.certificate, None, None, authorities_setting="tls_ca"
    )
    assert "edge.tls_key is not set" in refusal(alone)


def test_a_key_of_another_certificate_is_named(authority: Authority) -> None:
    mixed = Pair(authority.issue("a").certificate, authority.issue("b").key)
    assert "b.key does not belong to the certificate" in refusal(files(mixed))


def test_an_expired_certificate_says_when_and_what_to_do(authority: Authority) -> None:
    sentence = refusal(files(authority.issue("a", begins=-3 * DAY, ends=-DAY)))
    assert "has expired: it was valid until" in sentence
    assert "verifier.tls_certificate" in sentence


def test_a_certificate_of_tomorrow_points_to_the_clock(authority: Authority) -> None:
    assert "clock" in refusal(files(authority.issue("a", begins=DAY)))


def test_an_expired_authority_is_named(authority: Authority) -> None:
    sentence = refusal(files(None, authority.ca), lambda: time.time() + 40 * 86400)
    assert "ca.pem has expired" in sentence
    assert "verifier.tls_client_ca" in sentence


def test_a_certificate_that_is_no_authoritys_vouches_for_nobody(authority: Authority) -> None:
    pair = authority.issue("a")
    assert "no certificate of an authority" in refusal(files(None, pair.certificate))


@pytest.mark.parametrize("content", [b"", b"no PEM", b"\xff\xfe\x00", b"-----BEGIN CERTIFICATE"])
def test_files_of_something_else_are_one_sentence(authority: Authority, content: bytes) -> None:
    pair = authority.issue("a")
    for path in (pair.certificate, pair.key):
        kept = path.read_bytes()
        path.write_bytes(content)
        assert "PEM" in refusal(files(pair))
        path.write_bytes(kept)
    authority.ca.write_bytes(content)
    assert "no certificate of an authority" in refusal(files(pair, authority.ca))


def test_a_file_that_is_not_there_is_named(authority: Authority, tmp_path: Path) -> None:
    pair = Pair(tmp_path / "none.pem", authority.issue("a").key)
    assert "none.pem, which cannot be read" in refusal(files(pair))


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(
    authority: Authority,
) -> None:
    pair = authority.issue("a")
    pair.key.write_bytes(key_pem(ec.generate_private_key(ec.SECP256R1()), password=b"secret"))
    assert "not encrypted" in refusal(files(pair))
