"""Ports for gRPC servers, and one sentence where one cannot be had."""

import grpc

from outrider_common.errors import PortInUseError


def bind(
    server: grpc.aio.Server,
    host: str,
    port: int,
    credentials: grpc.ServerCredentials | None = None,
    *,
    purpose: str,
    remedy: str,
) -> int:
    """Let a server listen; gives the port.

    Args:
        server: not started yet.
        host: address to listen on.
        port: 0 for any free one.
        credentials: of TLS; None speaks plain text.
        purpose: what the port is for, as in "Cannot `listen` on".
        remedy: what can be done where it cannot be had.

    Raises:
        PortInUseError: the address cannot be listened on.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if credentials is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials)
    except RuntimeError:
        bound = 0
    if bound == 0:
        raise PortInUseError(
            f"Cannot {purpose} on {address}: the port is in use or the address is not this "
            f"machine's; {remedy}"
        )
    return bound
