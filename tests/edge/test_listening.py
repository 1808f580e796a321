"""Sockets: loopback unless told otherwise, a Unix socket for this user alone, and busy places."""

import socket
import stat
from pathlib import Path

import pytest

from outrider_common.errors import ConfigError, PortInUseError
from outrider_common.settings.daemon import DaemonSettings
from outrider_edge.listening import address_of, listening_sockets


def connects(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as client:
        try:
            client.connect(address)
        except OSError:
            return False
        return True


def test_both_kinds_of_socket_take_connections_and_say_where(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with listening_sockets(DaemonSettings(port=0, socket=path)) as (tcp, unix):
        assert connects(tcp.getsockname())
        assert connects(str(path))
        assert address_of(tcp) == f"http://127.0.0.1:{tcp.getsockname()[1]}"
        assert address_of(unix) == f"unix:{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


def test_ipv6_loopback_is_written_in_brackets() -> None:
    with listening_sockets(DaemonSettings(host="::1", port=0)) as (tcp,):
        assert address_of(tcp).startswith("http://[::1]:")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_address_that_others_can_reach_must_be_meant(host: str) -> None:
    with (
        pytest.raises(ConfigError, match="--allow-remote"),
        listening_sockets(DaemonSettings(host=host, port=0)),
    ):
        pass


def test_an_address_that_others_can_reach_can_be_meant() -> None:
    with listening_sockets(DaemonSettings(host="0.0.0.0", port=0, allow_remote=True)) as (tcp,):
        assert connects(("127.0.0.1", tcp.getsockname()[1]))


def test_a_port_in_use_is_named() -> None:
    with listening_sockets(DaemonSettings(port=0)) as (tcp,):
        port = tcp.getsockname()[1]
        with (
            pytest.raises(PortInUseError, match=f"127.0.0.1:{port}.*--port"),
            listening_sockets(DaemonSettings(port=port)),
        ):
            pass


def test_a_host_that_is_not_there_is_named() -> None:
    settings = DaemonSettings(host="no-such-host.invalid", port=0)
    with pytest.raises(PortInUseError, match=r"no-such-host\.invalid"), listening_sockets(settings):
        pass


def test_the_socket_of_a_daemon_that_is_no_more_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with listening_sockets(DaemonSettings(port=0, socket=path)):
        assert connects(str(path))


def test_the_socket_of_a_daemon_that_lives_is_left_alone(tmp_path: Path) -> None:
    settings = DaemonSettings(port=0, socket=tmp_path / "edge.sock")
    with listening_sockets(settings):
        with pytest.raises(PortInUseError, match="--socket"), listening_sockets(settings):
            pass
        assert connects(str(settings.socket))


def test_a_file_is_not_overwritten_by_a_socket(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with (
        pytest.raises(ConfigError, match="no socket"),
        listening_sockets(DaemonSettings(port=0, socket=path)),
    ):
        pass
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["x" * 120, "no/such/directory/edge.sock"])
def test_a_path_that_cannot_be_a_socket_is_named(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"daemon\.socket is"),
        listening_sockets(DaemonSettings(port=0, socket=tmp_path / name)),
    ):
        pass


def test_stuck_clients_are_reset_in_the_end() -> None:
    with listening_sockets(DaemonSettings(port=0, client_timeout_s=7)) as (tcp,):
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
