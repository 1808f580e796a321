"""The files of TLS: read, and checked before anybody relies on them.

A certificate and its key are tried on each other in memory, with both ends of a handshake here.
Knows nothing of channels and servers.
"""

import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, Final

from outrider_common.errors import ConfigError

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: what has expired is read, so that it can be told when."""


class Presenter(Enum):
    """Who shows a certificate: it may be made out for one of the two only."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the files of one side are.

    Attributes:
        section: of the settings that name them, for sentences.
        presenter: which side of a connection it is.
        certificate: its certificate and those between it and the authority, PEM.
        key: of the certificate, PEM, not encrypted.
        authorities: certificates of those who vouch for the other side, PEM.
        authorities_setting: what the setting of `authorities` is called.
    """

    section: str
    presenter: Presenter
    certificate: Path | None
    key: Path | None
    authorities: Path | None
    authorities_setting: str

    @property
    def paths(self) -> tuple[Path, ...]:
        """Those files that are named."""
        named = (self.certificate, self.key, self.authorities)
        return tuple(path for path in named if path is not None)


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the files hold.

    Attributes:
        certificate: PEM; None if no certificate is shown.
        key: PEM; None likewise.
        authorities: PEM; None: nobody in particular.
        expires_at: until when the certificate is valid, in seconds since 1970.
        names: the DNS names, addresses and URIs that it is made out for.
    """

    certificate: bytes | None
    key: bytes | None = field(repr=False)
    authorities: bytes | None
    expires_at: float | None = None
    names: tuple[str, ...] = ()


def read_tls_files(files: TlsFiles, clock: Callable[[], float] = time.time) -> TlsMaterial:
    """Read the files, and make sure that they can be used now.

    Args:
        files: where they are.
        clock: seconds since 1970.

    Raises:
        ConfigError: naming the setting and the file at fault, and what to do.
    """
    certificate, key = files.certificate, files.key
    if (certificate is None) != (key is None):
        missing = "tls_key" if key is None else "tls_certificate"
        raise ConfigError(
            f"{files.section}.{missing} is not set, but a certificate and its key go together; "
            "name both files, or neither."
        )
    authorities = _read_authorities(files, clock()) if files.authorities else None
    if certificate is None or key is None:
        return TlsMaterial(None, None, authorities)
    pems = _read_pair(files, certificate, key)
    found = _read_certificate(files, certificate, key)
    _check_time(found, certificate, f"{files.section}.tls_certificate", clock())
    if pems != _read_pair(files, certificate, key):
        raise ConfigError(f"{certificate} or {key} changed while they were read; try again.")
    expires_at = float(ssl.cert_time_to_seconds(found["notAfter"]))
    names = tuple(str(name) for _, name in found.get("subjectAltName", ()))
    return TlsMaterial(pems[0], pems[1], authorities, expires_at, names)


def _read_pair(files: TlsFiles, certificate: Path, key: Path) -> tuple[bytes, bytes]:
    section = files.section
    return _read(certificate, f"{section}.tls_certificate"), _read(key, f"{section}.tls_key")


def _read(path: Path, setting: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{setting} is {path}, which cannot be read ({error.strerror}); name a file in PEM "
            "format that can be."
        ) from error


def _read_certificate(files: TlsFiles, certificate: Path, key: Path) -> Mapping[str, Any]:
    """What is written in a certificate, once its key has proved to fit it."""
    try:
        return _shaken_hands(files.presenter, certificate, key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"The key {key} does not belong to the certificate {certificate}; set "
                f"{files.section}.tls_certificate and {files.section}.tls_key to files of one pair."
            ) from error
        raise ConfigError(
            f"The certificate {certificate} with the key {key} cannot be used "
            f"({_words(error)}); {files.section}.tls_certificate and {files.section}.tls_key must "
            f"be in PEM format, the key not encrypted, and made for a {files.presenter.value}."
        ) from error


def _shaken_hands(presenter: Presenter, certificate: Path, key: Path) -> Mapping[str, Any]:
    """A handshake in memory, in which one side shows the certificate and the other reads it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    for context in (server, client):
        context.load_cert_chain(certificate, key, password=_no_password)
    reader = client if presenter is Presenter.SERVER else server
    reader.load_verify_locations(cafile=certificate)
    reader.verify_mode = ssl.CERT_REQUIRED
    reader.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)]
    for end in (*ends, *ends):  # two turns of each: the last one to read is the server
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0 if reader is client else 1].getpeercert() or {}


def _no_password() -> str:
    """Instead of a question on the terminal."""
    return ""


def _read_authorities(files: TlsFiles, now: float) -> bytes:
    path = files.authorities
    assert path is not None
    setting = f"{files.section}.{files.authorities_setting}"
    pem = _read(path, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with suppress(ssl.SSLError, ValueError):
        context.load_verify_locations(cadata=pem.decode("ascii", errors="ignore"))
    found = context.get_ca_certs()
    if not found:
        raise ConfigError(
            f"{setting} is {path}, which holds no certificate of an authority; name a file with "
            "one in PEM format."
        )
    latest = max(found, key=lambda one: ssl.cert_time_to_seconds(str(one["notAfter"])))
    _check_time(latest, path, setting, now)
    return pem


def _check_time(found: Mapping[str, Any], path: Path, setting: str, now: float) -> None:
    begins = ssl.cert_time_to_seconds(found["notBefore"])
    ends = ssl.cert_time_to_seconds(found["notAfter"])
    if now >= ends:
        raise ConfigError(
            f"The certificate {path} has expired: it was valid until {_day(ends)}, and it is "
            f"{_day(now)}; set {setting} to a newer one, or this machine's clock."
        )
    if now < begins:
        raise ConfigError(
            f"The certificate {path} is not valid yet: it begins {_day(begins)}, and it is "
            f"{_day(now)}; set this machine's clock, or {setting} to another certificate."
        )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _words(error: ssl.SSLError) -> str:
    return error.reason.replace("_", " ").lower() if error.reason else "not PEM"
