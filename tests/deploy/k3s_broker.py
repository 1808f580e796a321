"""A real Mosquitto with the files of the k3s overlays in other places."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy_objects import KUBERNETES

FLEET = KUBERNETES / "components" / "fleet"
MOSQUITTO = shutil.which("mosquitto") or "/usr/sbin/mosquitto"


@contextmanager
def running_broker(directory: Path, passwords: Path) -> Iterator[int]:
    """A broker that keeps its state in a directory; yields its port, where it listens by then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    text = (FLEET / "mosquitto.conf").read_text()
    for old, new in {
        "listener 1883": f"listener {port} 127.0.0.1\nuser root",
        "/mosquitto/config/acl": str(FLEET / "acl"),
        "/mosquitto/secrets/passwords": str(passwords),
        "/mosquitto/data/": f"{directory}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    (directory / "mosquitto.conf").write_text(text)
    process = subprocess.Popen([MOSQUITTO, "-c", directory / "mosquitto.conf"])
    try:
        _wait_until_it_listens(process, port)
        yield port
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def _wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    """The test's own time limit is the only one."""
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            continue
        return
