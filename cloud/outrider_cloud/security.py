"""All that keeps strangers out of a verifier, built from the settings.

Knows every class of it, and decides nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from outrider_cloud.audit import write_audit_log
from outrider_cloud.authentication import Authenticator
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.gate import Gate
from outrider_cloud.tenant_usage import TenantUsage
from outrider_cloud.tenants import TenantDirectory
from outrider_cloud.transport_security import refuse_unsafe, server_credentials, tls_files
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.watched_files import WatchedValue

_MAX_METADATA_BYTES: Final = 8192
"""A token needs a hundred; what is larger is refused by gRPC itself."""


@dataclass(frozen=True, slots=True)
class ServerSecurity:
    """What a server is built with.

    Attributes:
        credentials: of TLS; None speaks plain text.
        gates: interceptors that every call goes through.
        usage: of tenants.
        options: of gRPC.
        health_port: a second port for health alone; None: none.
    """

    credentials: grpc.ServerCredentials | None = None
    gates: Sequence[Gate] = ()
    usage: TenantUsage | None = None
    options: Sequence[tuple[str, Any]] = ()
    health_port: int | None = None


NO_SECURITY: Final = ServerSecurity()
"""Everybody is let in, in plain text: for tests."""


def load_security(settings: VerifierSettings) -> Callable[[BatchingEngine], ServerSecurity]:
    """Read what the settings name, before a model is loaded.

    Returns:
        What makes the rest, once there is an engine.

    Raises:
        ConfigError: a file cannot be used, or the host is open to others who would not be asked.
    """
    refuse_unsafe(settings)
    credentials = server_credentials(tls_files(settings))
    authenticator = _authenticator(settings)
    if settings.audit:
        write_audit_log()

    def around(engine: BatchingEngine) -> ServerSecurity:
        usage = TenantUsage()
        rate = settings.max_messages_per_s
        gate = Gate(authenticator, settings.model, usage, engine.row_limits, rate)
        return ServerSecurity(credentials, [gate], usage, _options(settings), settings.health_port)

    return around


def _authenticator(settings: VerifierSettings) -> Authenticator:
    path = settings.tenants
    if path is None:
        return Authenticator(None, needs_certificate=settings.tls_client_ca is not None)
    watched = WatchedValue([path], lambda: TenantDirectory.load(path))

    def directory() -> TenantDirectory:
        watched.refresh()
        return watched.value

    return Authenticator(directory)


def _options(settings: VerifierSettings) -> Sequence[tuple[str, Any]]:
    return (
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
    )
