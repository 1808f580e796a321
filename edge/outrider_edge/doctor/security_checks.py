"""The check of who could read along, or read what the edge shows of itself."""

import ipaddress
import socket
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from outrider_common.settings.edge import EdgeSettings
from outrider_common.tls_files import TlsFiles
from outrider_edge.doctor.examination import Check, Verdict, in_thread
from outrider_edge.doctor.findings import Grade
from outrider_edge.doctor.patient import Patient
from outrider_edge.link_security import LinkSecurity
from outrider_edge.verifier_addresses import host_and_port, resolve, split_addresses

SOON_DAYS: Final = 14.0
"""A certificate that is good for fewer days should be renewed."""

_DAY_S: Final = 86400.0


async def _privacy(patient: Patient) -> Verdict:
    edge = patient.settings.edge
    for path in (edge.token_file, edge.tls_key):
        if path is not None and _is_open_to_others(path):
            return Verdict.doubtful(
                f"Others on this machine may read {path}; let nobody but this user: chmod 600."
            )
    security = LinkSecurity.of(edge)
    names = split_addresses(edge.verifier)
    if security.files is None:
        return await _plain_text(names)
    addresses = await resolve(names)
    found = [await _tls(edge, address, security, security.files) for address in addresses]
    worse = [verdict for verdict in found if verdict.grade is not Grade.PASS]
    return (worse or found)[0]


async def _plain_text(names: list[str]) -> Verdict:
    hosts = [host_and_port(name)[0] for name in names]
    addresses: set[str] = set()
    for host in hosts:
        look_up = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
        try:
            found = await in_thread(look_up)
        except OSError as error:
            return Verdict.bad(f"There is no address of {host} ({error}); correct --verifier.")
        addresses |= {str(entry[4][0]).partition("%")[0] for entry in found}
    if all(ipaddress.ip_address(address).is_loopback for address in addresses):
        return Verdict.good("Plain text, which does not leave this machine.")
    return Verdict.doubtful(
        f"Tokens travel to {' and '.join(hosts)} in plain text; set edge.tls_ca, and TLS at the "
        "verifier, see docs/security.md."
    )


async def _tls(
    edge: EdgeSettings, address: str, security: LinkSecurity, files: TlsFiles
) -> Verdict:
    """What both sides show, once the check of the verifier has found that it works."""
    credentials = security.read()
    assert credentials.tls is not None
    try:
        theirs = await in_thread(lambda: _certificate_of(edge, address, security, files))
    except OSError as error:
        return Verdict.bad(
            f"TLS with {address} does not come about ({error}); see docs/security.md."
        )
    days = {"verifier_certificate_days": _days_left(ssl.cert_time_to_seconds(theirs["notAfter"]))}
    if credentials.tls.expires_at is not None:
        days["own_certificate_days"] = _days_left(credentials.tls.expires_at)
    whose, left = min(days.items(), key=lambda one: one[1])
    said = f"TLS; certificates are good for {left:.0f} days"
    if left < SOON_DAYS:
        whom = "The verifier's" if whose.startswith("verifier") else "The edge's own"
        return Verdict.doubtful(
            f"{whom} certificate is good for {left:.0f} more days only; renew it: a new file in "
            "the place of the old one is read without a restart.",
            **days,
        )
    return Verdict.good(f"{said}.", **days)


def _certificate_of(
    edge: EdgeSettings, address: str, security: LinkSecurity, files: TlsFiles
) -> dict[str, Any]:
    """What the verifier shows, by a handshake of our own."""
    host, port = host_and_port(address)
    context = ssl.create_default_context(cafile=files.authorities)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # gRPC is not, either
    context.set_alpn_protocols(["h2"])
    if files.certificate is not None:
        context.load_cert_chain(files.certificate, files.key)
    name = security.server_name or host
    with (
        socket.create_connection((host, int(port)), edge.connect_timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=name) as wrapped,
    ):
        return dict(wrapped.getpeercert() or {})


def _days_left(expires_at: float, clock: Callable[[], float] = time.time) -> float:
    return (expires_at - clock()) / _DAY_S


def _is_open_to_others(path: Path) -> bool:
    with suppress(OSError):
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
    return False


SECURITY_CHECKS: Final = (
    Check(
        "privacy",
        _privacy,
        needs=("settings",),
        if_it_hangs="the name server does not answer: write the verifier's address in numbers.",
    ),
)
