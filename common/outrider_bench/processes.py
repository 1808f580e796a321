"""The processes of the bench, each pinned to a core: verifier, link, players.

They get no Ctrl-C of their own; whoever starts one ends it. Knows nothing of what is measured.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from outrider_common.errors import UnavailableError, error_from_wire

_VERIFIER_READY: Final = re.compile(r"Verifier ready: .* on (\S+)")
_LINK_READY: Final = re.compile(r"Link ready: (\S+) to ")
_STOP_S: Final = 20.0


@contextmanager
def running(module: str, *arguments: str, core: int | None) -> Iterator["subprocess.Popen[str]"]:
    """A Python module as a process on one core; it is ended with the block.

    Args:
        module: as after `python -m`.
        arguments: of its command line.
        core: None leaves it where the system puts it.
    """
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def starting_verifier(
    target: str, store: Path, core: int | None, *options: str
) -> Iterator[Callable[[], str]]:
    """`outrider verifier serve` on a free port; yields what waits for it and gives its address.

    Every prompt is computed, or the first policy to ask would pay for the others.

    Raises:
        UnavailableError: when it is waited for: it did not start.
    """
    command = ("verifier", "serve", "--port", "0", "--model", target, "--no-share-prefixes")
    whole = (*command, "--cache-dir", str(store), *options)
    with running("outrider", *whole, core=core) as process:
        yield lambda: _address(process, _VERIFIER_READY, "verifier")


@contextmanager
def running_verifier(target: str, store: Path, core: int | None) -> Iterator[str]:
    """A verifier that is ready; yields its address. See `starting_verifier`.

    Raises:
        UnavailableError: it did not start.
    """
    with starting_verifier(target, store, core) as address:
        yield address()


@contextmanager
def running_link(
    target: str, rtt_ms: float, bandwidth_mbps: float | None, core: int | None
) -> Iterator[str]:
    """`outrider bench link` to a target; yields its own address.

    Raises:
        UnavailableError: it did not start.
    """
    bandwidth = "unlimited" if bandwidth_mbps is None else f"{bandwidth_mbps:f}Mbit"
    ways = ("--up", bandwidth, "--down", bandwidth)
    command = ("bench", "link", "--target", target, "--rtt", f"{rtt_ms:f}ms", *ways)
    with running("outrider", *command, core=core) as process:
        yield _address(process, _LINK_READY, "emulated link")


class Player:
    """A process that does what it is told, one line of JSON at a time."""

    def __init__(self, process: "subprocess.Popen[str]", name: str) -> None:
        self._process = process
        self._name = name

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """Have it do something, and wait for its reply.

        Raises:
            OutriderError: what it says went wrong.
            UnavailableError: it is gone.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do} | command) + "\n")
            self._process.stdin.flush()
        return self.listen()

    def listen(self) -> dict[str, Any]:
        """Wait for a reply; see `ask`."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError(
                f"The bench's {self._name} ended unexpectedly; what it said stands above."
            )
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise error_from_wire(reply["reason"], reply["error"])
        return reply


@contextmanager
def running_player(module: str, settings: object, name: str, core: int | None) -> Iterator[Player]:
    """A player that is ready.

    Args:
        module: as after `python -m`.
        settings: what it is to be, as it can be written as JSON.
        name: for people.
        core: where it runs.

    Raises:
        OutriderError: it cannot be that.
    """
    with running(module, json.dumps(settings), core=core) as process:
        player = Player(process, name)
        player.listen()
        yield player


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """What this thread starts within the block begins, and stays, on one core."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _address(process: "subprocess.Popen[str]", ready: re.Pattern[str], what: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if found := ready.match(line):
            return found.group(1)
    raise UnavailableError(f"The {what} did not start; what it said stands above.")


def _stop(process: "subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
