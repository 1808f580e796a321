"""The sockets on which a daemon listens: TCP on loopback, and a Unix socket beside it.

Knows nothing of what is spoken on them.
"""

import contextlib
import ipaddress
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from outrider_common.errors import ConfigError, PortInUseError
from outrider_common.settings.daemon import DaemonSettings

_OWNER_ONLY: Final = 0o177
"""The umask under which a Unix socket is made."""

_MS: Final = 1000


@contextlib.contextmanager
def listening_sockets(settings: DaemonSettings) -> Iterator[list[socket.socket]]:
    """The bound sockets, TCP first; closed in the end, and the Unix socket's file removed.

    Raises:
        ConfigError: the host could be reached by other machines, which is not allowed; or the
            Unix socket's path cannot be used.
        PortInUseError: somebody else listens there.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(_tcp_socket(settings))]
        if settings.socket is not None:
            sockets.append(stack.enter_context(_unix_socket(settings.socket)))
        yield sockets


def address_of(bound: socket.socket) -> str:
    """Where a socket listens, as clients would write it."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"unix:{name}"
    host, port = name[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tcp_socket(settings: DaemonSettings) -> socket.socket:
    where = f"{settings.host}:{settings.port}"
    remedy = "choose another with --port or --host (--port 0 takes any free one)."
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise PortInUseError(f"There is no address {settings.host}; {remedy}") from None
    if not settings.allow_remote:
        _refuse_remote(str(address[0]))
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _give_up_stuck_clients(bound, settings.client_timeout_s)
        bound.bind(address)
        bound.listen()
    except OSError:
        bound.close()
        raise PortInUseError(
            f"Cannot listen on {where}: the port is in use or the address is not this machine's; "
            f"{remedy}"
        ) from None
    return bound


def _refuse_remote(address: str) -> None:
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ConfigError(
            f"daemon.host is {address}, which other machines can reach, and there is no "
            "authentication; use 127.0.0.1, or say --allow-remote if that is meant."
        )


def _give_up_stuck_clients(bound: socket.socket, timeout_s: float) -> None:
    """Connections whose client takes nothing for so long are reset (RFC 5482), where that exists.

    Accepted sockets inherit it.
    """
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * _MS))


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    _make_way(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    previous = os.umask(_OWNER_ONLY)
    try:
        bound.bind(str(path))
        bound.listen()
    except OSError as error:
        bound.close()
        raise ConfigError(
            f"daemon.socket is {path}, where no socket can be made ({error}); name a short path "
            "in a directory of yours."
        ) from None
    finally:
        os.umask(previous)
    with bound:
        try:
            yield bound
        finally:
            path.unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    """Remove the socket of a daemon that is no more."""
    try:
        kind = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(kind):
        raise ConfigError(f"daemon.socket is {path}, which is there and no socket; name another.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise PortInUseError(
        f"Somebody listens on {path} already; stop that daemon, or name another with --socket."
    )
