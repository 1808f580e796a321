"""A service manager of our own: a real datagram socket, and what was said to it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Listener:
    """Hears what a daemon says of itself."""

    there: socket.socket
    address: str
    heard: list[dict[str, str]] = field(default_factory=list)

    def next(self) -> dict[str, str]:
        """The next datagram."""
        text = self.there.recv(4096).decode()
        said = dict(line.split("=", 1) for line in text.splitlines())
        self.heard.append(said)
        return said

    def until(self, key: str) -> dict[str, str]:
        """The next datagram with this key; the test's own time limit is the only one."""
        while key not in (said := self.next()):
            pass
        return said


@contextmanager
def listening_manager(path: Path | None = None) -> Iterator[Listener]:
    """A socket at a path, or with an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        if path:
            there.bind(str(path))
            yield Listener(there, str(path))
        else:
            there.bind("")  # the kernel gives it a name
            yield Listener(there, "@" + there.getsockname()[1:].decode())
