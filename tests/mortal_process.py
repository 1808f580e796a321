"""A server as a process, which tests kill, freeze, end and start again at the same port."""

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO


class MortalProcess:
    """One process that says where it listens; it is not started yet.

    Args:
        command: starts it, without its port.
        says: matches that line; the first group ends in a colon and the port.
        log: takes its standard error; None: ours does.

    Attributes:
        process: the one that runs, or ran last.
        address: the first group of what it said.
    """

    process: subprocess.Popen[str]

    def __init__(
        self, command: Sequence[str | Path], says: re.Pattern[str], log: IO[str] | None = None
    ) -> None:
        self._command = [*command]
        self._says = says
        self._log = log
        self._port = "0"
        self.address = ""

    def begin(self) -> None:
        """Start it; `ready` waits for it."""
        self.process = subprocess.Popen(
            [*self._command, "--port", self._port],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it listens."""
        self.address = self.said(self._says)[1]
        self._port = self.address.rpartition(":")[2]

    def said(self, what: re.Pattern[str]) -> re.Match[str]:
        """Wait for its next line, which is this."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = what.match(line)
        assert found is not None, f"it did not get ready, but said {line!r}"
        return found

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; its exit status."""
        status = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def end(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.wait()
