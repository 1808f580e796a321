"""Several verifiers of one model as processes, which tests kill, freeze, end and start again."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from outrider.demo import READY


class Replica:
    """One verifier process at an address that stays the same.

    Args:
        command: starts it, without its port.
        log: takes its standard error; None: ours does.
    """

    def __init__(self, command: Sequence[str | Path], log: IO[str] | None = None) -> None:
        self._command = [*command]
        self._log = log
        self._port = "0"
        self.address = ""
        self.begin()

    def begin(self) -> None:
        """Start it; `ready` waits for it."""
        self.process = subprocess.Popen(
            [*self._command, "--port", self._port],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ready(self) -> None:
        """Wait until it serves."""
        assert self.process.stdout is not None
        ready = READY.match(self.process.stdout.readline())
        assert ready is not None, "the verifier did not start"
        self.address = ready.group(1)
        self._port = self.address.rpartition(":")[2]

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


@contextmanager
def replicas(
    outrider: Sequence[str | Path], model: str | Path, count: int, *options: str
) -> Iterator[list[Replica]]:
    """So many verifiers, side by side.

    Args:
        outrider: the command, such as `[sys.executable, "-m", "outrider"]`.
        model: the directory of the target model, or its name.
        count: how many.
        options: further ones of the command.
    """
    command = [*outrider, "verifier", "serve", "--model", model, *options]
    started = [Replica(command) for _ in range(count)]
    try:
        for replica in started:
            replica.ready()
        yield started
    finally:
        for replica in started:
            replica.end()
