"""TLS of the verifier, and what it takes to be reached by other machines at all.

Certificates are read again when their files change: connections made from then on get the new ones,
those that are there go on. Knows nothing of sessions and tenants.
"""

import ipaddress
import socket
import threading
from typing import Any

import grpc

from outrider_common.errors import ConfigError
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.tls_files import Presenter, TlsFiles, TlsMaterial, read_tls_files
from outrider_common.watched_files import WatchedValue


def tls_files(settings: VerifierSettings) -> TlsFiles:
    """The files that the settings name."""
    return TlsFiles(
        section="verifier",
        presenter=Presenter.SERVER,
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        authorities=settings.tls_client_ca,
        authorities_setting="tls_client_ca",
    )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials | None:
    """What a server needs to speak TLS; None if no certificate is named.

    Raises:
        ConfigError: the files cannot be used, or do not make a whole.
    """
    if files.certificate is None and files.key is None:
        if files.authorities is not None:
            raise ConfigError(
                "verifier.tls_client_ca asks edges for certificates, but the verifier has none "
                "itself; set verifier.tls_certificate and verifier.tls_key, too."
            )
        return None
    reloading = _ReloadingCertificates(files)
    fetch: Any = reloading.newer_configuration  # its stub does not know that None is allowed
    return grpc.dynamic_ssl_server_credentials(
        reloading.configuration(),
        fetch,
        require_client_authentication=files.authorities is not None,
    )


class _ReloadingCertificates:
    """The certificates that the files hold now.

    Args:
        files: where they are.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._lock = threading.Lock()
        self._watched = WatchedValue[TlsMaterial](files.paths, lambda: read_tls_files(files))

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What is in force, in gRPC's form."""
        material = self._watched.value
        assert material.certificate is not None
        assert material.key is not None
        return grpc.ssl_server_certificate_configuration(
            [(material.key, material.certificate)], material.authorities
        )

    def newer_configuration(self) -> grpc.ServerCertificateConfiguration | None:
        """Likewise if it is new; gRPC asks before each handshake, on threads of its own."""
        with self._lock:
            return self.configuration() if self._watched.refresh() else None


def refuse_unsafe(settings: VerifierSettings) -> None:
    """Refuse to be reached by other machines without TLS or without knowing who asks.

    Raises:
        ConfigError: naming what is missing, and all that can be done.
    """
    if settings.insecure or _is_loopback(settings.host):
        return
    missing = []
    if settings.tls_certificate is None:
        missing.append("no TLS (set verifier.tls_certificate and verifier.tls_key)")
    if settings.tls_client_ca is None and settings.tenants is None:
        missing.append("no way to know who asks (set verifier.tenants or verifier.tls_client_ca)")
    if missing:
        raise ConfigError(
            f"verifier.host is {settings.host}, which other machines can reach, and there is "
            f"{' and '.join(missing)}; set that, or listen on 127.0.0.1, or say --insecure if "
            "whoever reaches the port may read and use everything."
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host; a name counts as what it leads to."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    addresses = {str(entry[4][0]).partition("%")[0] for entry in found}
    return all(ipaddress.ip_address(address).is_loopback for address in addresses)
