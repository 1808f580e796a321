"""What a daemon tells the service manager that started it: sd_notify(3), and its watchdog.

The one module of this package that needs a socket. Where nobody listens, nothing is said.
"""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_MICROSECONDS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """The way to the service manager.

    Attributes:
        address: of its datagram socket, a path or an abstract name that begins with '@'; None:
            there is none.
        watchdog_s: it restarts a daemon that is silent for so long; None: it does not.
    """

    address: str | None = None
    watchdog_s: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "ServiceManager":
        """The one that the environment names; what it meant for another process is left out."""
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        watched = is_ours and microseconds.isdigit() and int(microseconds) > 0
        return cls(
            environment.get("NOTIFY_SOCKET") or None,
            int(microseconds) / _MICROSECONDS if watched else None,
        )

    def ready(self, status: str) -> None:
        """The daemon listens."""
        self._say("READY=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """How it is, in a few words."""
        self._say(f"STATUS={status}")

    def reloading(self) -> None:
        """It reads its settings again, until it says that it is ready."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._say("RELOADING=1", f"MONOTONIC_USEC={now}")

    def stopping(self) -> None:
        """It finishes what is in progress, and ends."""
        self._say("STOPPING=1")

    def alive(self) -> None:
        """For the watchdog."""
        self._say("WATCHDOG=1")

    def _say(self, *lines: str) -> None:
        """One datagram. A manager that does not listen any more is no reason to fail."""
        if self.address is None:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        text = "\n".join(line.replace("\n", " ") for line in lines)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
            there.setblocking(False)
            try:
                there.sendto(text.encode(), name)
            except OSError:
                return
