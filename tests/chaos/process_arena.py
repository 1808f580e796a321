"""Verifiers and a daemon as processes that are killed and stopped, behind links that break.

The target is synthetic, the rest is what users run.
"""

import asyncio
import contextlib
import re
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemons import MortalDaemon
from link_strikes import strike_link
from mortal_process import MortalProcess
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families
from replicas import Replica
from strikes import Strike, StrikeKind
from words import SPEC, write_word_bundle

from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile

OUTRIDER: Final = (sys.executable, "-m", "outrider")
VERIFIER_OPTIONS: Final = ("--drain-grace-s", "0.3", "--kv-cache-mib", "8")
DAEMON_OPTIONS: Final = (
    *("--proposers", "garbage", "--heartbeat-s", "0.5", "--connect-timeout-s", "3"),
    *("--resume-timeout-s", "20", "--stop-grace-s", "0.5", "--max-concurrent-requests", "64"),
)
LEFT_AFTER_S: Final = 30.0
"""What is over has been given back by then: a silent connection is noticed within 20 s."""

COMPLAINT: Final = re.compile(r"Traceback|Z error |never retrieved|was destroyed|never awaited")
"""In a log: a fault of ours."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A verifier process, the link to it, and where its figures are."""

    process: Replica
    link: LinkEmulator
    metrics_port: int


class ProcessArena:
    """Some verifiers, a link to each, and one daemon.

    Args:
        verifiers: they run.
        daemon: it runs.
        directory: of its state, and of what all of them log.

    Attributes:
        daemon_killed_at: when, by `time.monotonic`.
    """

    def __init__(
        self, verifiers: Sequence[Verifier], daemon: MortalDaemon, directory: Path
    ) -> None:
        self.daemon = daemon
        self.daemon_killed_at: list[float] = []
        self._verifiers = verifiers
        self._directory = directory
        self._num_read: Counter[Path] = Counter()  # characters

    @property
    def num_verifiers(self) -> int:
        """How many there are."""
        return len(self._verifiers)

    async def strike(self, strike: Strike) -> None:
        """Do it, and undo it where it passes."""
        if strike.verifier is None:
            if strike.kind is StrikeKind.KILL:
                self.daemon_killed_at.append(time.monotonic())
            await _strike_process(self.daemon, strike)
            return
        verifier = self._verifiers[strike.verifier]
        if not strike_link(verifier.link, strike):
            await _strike_process(verifier.process, strike)

    async def leftovers(self) -> list[str]:
        """What answers that are over have left behind, after a while."""
        end = time.monotonic() + LEFT_AFTER_S
        while (  # noqa: ASYNC110  (what is waited for is no event)
            left := await asyncio.to_thread(self._held)
        ) and time.monotonic() < end:
            await asyncio.sleep(0.1)
        return left + self._unfinished_answers()

    def complaints(self) -> list[str]:
        """Faults of ours that processes have logged since this was asked last."""
        lines = [(log, line) for log in self._directory.glob("*.log") for line in self._new(log)]
        return [f"{log.stem} says: {line}" for log, line in lines if COMPLAINT.search(line)]

    def _new(self, log: Path) -> list[str]:
        text = log.read_text()[self._num_read[log] :]
        self._num_read[log] += len(text)
        return text.splitlines()

    def _held(self) -> list[str]:
        found = {f"verifier {i}": v.metrics_port for i, v in enumerate(self._verifiers)}
        pages = {name: f"http://127.0.0.1:{port}" for name, port in found.items()}
        pages["the daemon"] = self.daemon.url
        return [f"{name} has {what}" for name, url in pages.items() for what in _held_at(url)]

    def _unfinished_answers(self) -> list[str]:
        """Every file of the journal is whole, and there are no others."""
        files = [*(self._directory / "journal").iterdir()]
        answers = [file for file in files if file.suffix == ".answer"]
        strangers = [file.name for file in files if file not in answers and file.name != "lock"]
        cut = [file.name for file in answers if b'"kind":"ended"' not in file.read_bytes()]
        return [f"the journal has {name}" for name in [*strangers, *cut]]


async def _strike_process(process: MortalProcess, strike: Strike) -> None:
    match strike.kind:
        case StrikeKind.STOP:
            process.send(signal.SIGSTOP)
            await asyncio.sleep(strike.for_s)
            process.send(signal.SIGCONT)
        case StrikeKind.KILL:
            process.send(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            await asyncio.sleep(strike.for_s)
            await _begin(process)
        case StrikeKind.DRAIN:
            await _end(process)
            await _begin(process)


async def _end(process: MortalProcess) -> None:
    process.send(signal.SIGTERM)
    status = await asyncio.to_thread(process.wait)
    assert status == 0, f"told to end, it ended with {status}"


async def _begin(process: MortalProcess) -> None:
    process.begin()
    await asyncio.to_thread(process.ready)


_HELD: Final = {
    "outrider_verifier_num_requests_running": "sessions that run",
    "outrider_verifier_num_requests_waiting": "sessions that wait",
    "outrider_verifier_kv_cache_pages": "pages that are held",
    "vllm:num_requests_running": "answers that are written",
    "vllm:num_requests_waiting": "answers that wait",
}


def _held_at(url: str) -> list[str]:
    """What a process holds, by its own figures."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    samples = [sample for family in families for sample in family.samples]
    held = [one for one in samples if one.name in _HELD and one.labels.get("use", "held") == "held"]
    assert held
    return [f"{one.value:g} {_HELD[one.name]}" for one in held if one.value]


@contextlib.asynccontextmanager
async def process_arena(num_verifiers: int, directory: Path) -> AsyncIterator[ProcessArena]:
    """Everything up and well; in the end all of it ends well when it is told to.

    Args:
        num_verifiers: how many.
        directory: an empty one.
    """
    write_word_bundle(directory / "words")
    async with contextlib.AsyncExitStack() as stack:
        verifiers = [
            await _a_verifier(stack, directory / f"verifier-{number}.log")
            for number in range(num_verifiers)
        ]
        daemon = MortalDaemon(
            ",".join(verifier.link.address for verifier in verifiers),
            directory / "words",
            directory,
            *DAEMON_OPTIONS,
            log=stack.enter_context((directory / "daemon.log").open("a")),
        )
        daemon.begin()
        stack.callback(daemon.end)
        await asyncio.to_thread(daemon.ready)
        await asyncio.to_thread(daemon.meet)
        yield ProcessArena(verifiers, daemon, directory)
        await _end(daemon)
        for verifier in verifiers:
            await _end(verifier.process)


async def _a_verifier(stack: contextlib.AsyncExitStack, log: Path) -> Verifier:
    port = free_port()
    command = (*OUTRIDER, "verifier", "serve", "--model", str(SPEC), "--metrics-port", str(port))
    process = Replica([*command, *VERIFIER_OPTIONS], stack.enter_context(log.open("a")))
    stack.callback(process.end)
    await asyncio.to_thread(process.ready)
    link = LinkEmulator(LinkProfile(rtt_s=0.002), process.address)
    return Verifier(process, await stack.enter_async_context(link), port)
