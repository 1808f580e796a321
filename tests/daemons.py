"""Edge daemons as processes of their own, the way users start them."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mortal_process import MortalProcess
from openai import AsyncOpenAI, OpenAI

LISTENING = re.compile(r"Edge listening on (http://\S+)")
READY = re.compile(r"Edge ready: (\S+), drafted by (\S+)")


@dataclass
class RunningDaemon:
    """A daemon that listens.

    Attributes:
        process: it.
        url: where it listens.
    """

    process: "subprocess.Popen[str]"
    url: str

    def wait_until_ready(self) -> str:
        """The model, once the verifier has been reached."""
        assert self.process.stdout is not None
        ready = READY.match(self.process.stdout.readline())
        assert ready is not None, "the daemon did not get ready"
        return ready.group(1)

    def client(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def async_client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@contextmanager
def running_daemon(verifier: str, bundle: Path, *options: str) -> Iterator[RunningDaemon]:
    """`outrider edge serve` on a free port of loopback; it must end well when it is told to.

    Args:
        verifier: its address.
        bundle: the directory of the drafter.
        options: further ones of the command.
    """
    command = [sys.executable, "-m", "outrider", "edge", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--verifier", verifier, "--bundle", str(bundle), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        listening = LISTENING.match(process.stdout.readline())
        assert listening is not None, "the daemon did not start"
        yield RunningDaemon(process, listening.group(1))
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
        process.stdout.close()


class MortalDaemon(MortalProcess):
    """A daemon on a port and a state directory that stay the same.

    Args:
        verifier: its address.
        bundle: the directory of the drafter.
        state: where it keeps what it keeps.
        options: further ones of the command.
        log: takes its standard error; None: ours does.

    Attributes:
        model: which it serves, once it has met the verifier.
    """

    model: str

    def __init__(
        self,
        verifier: str,
        bundle: Path,
        state: Path,
        *options: str,
        log: IO[str] | None = None,
    ) -> None:
        command = [sys.executable, "-m", "outrider", "edge", "serve", "--verifier", verifier]
        command += ["--bundle", str(bundle), "--cache-dir", str(state), *options]
        super().__init__(command, LISTENING, log)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.address

    def meet(self) -> None:
        """Wait until it has reached the verifier, and so knows its model."""
        self.model = self.said(READY)[1]

    def start(self) -> None:
        """Start it, and wait for all of that."""
        self.begin()
        self.ready()
        self.meet()

    def client(self, max_retries: int = 0) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=max_retries)
