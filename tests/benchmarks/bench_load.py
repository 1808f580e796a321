"""Benchmark of load: many sessions that only hold their place, and some that are decoded.

A verifier with a synthetic target as a process of its own, and this process as all of its edges.
Measured with the idle sessions and without, in turn. Prints a table: see `--help`.

Idle is one of two things. `unread`: the session runs, its edge does not read, and so the verifier
has paused it. `waiting`: the session was opened and waits for room.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from rich.console import Console

from outrider.demo import READY
from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_common.messages import OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec
from outrider_common.wire import encode_open

POSITIONS: Final = 8192
PROMPT_TOKENS: Final = 32
ROWS_PER_PASS: Final = 1024
METRICS_PORT: Final = 17433
SESSIONS_PER_CHANNEL: Final = 500
UNREAD_BYTES: Final = 256
"""What an edge lets come that does not read."""

TOP_LOGPROBS: Final = 20
"""Wanted by edges that do not read, so that a few commits are more than they let come."""

OPENING_AT_ONCE: Final = 50
IDLE_WAYS: Final = ("unread", "waiting")


@dataclass(frozen=True)
class Figures:
    """What one window of time has shown."""

    resident_mib: float
    tokens_per_s: float
    pass_ms: float
    host_ms: float
    lag_ms: float
    slowest_lag_ms: float


class Edges:
    """Streams of one kind, on channels of their own."""

    def __init__(
        self, address: str, spec: SyntheticSpec, options: Sequence[tuple[str, int]]
    ) -> None:
        self._address = address
        self._spec = spec
        self._options = (*options, ("grpc.use_local_subchannel_pool", 1))
        self._channels: list[grpc.aio.Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._calls: list[Any] = []
        self.num_tokens = 0

    async def open(self, count: int, *, reads: bool) -> None:
        """So many more sessions, some at a time."""
        for first in range(0, count, OPENING_AT_ONCE):
            numbers = range(first, min(first + OPENING_AT_ONCE, count))
            await asyncio.gather(*(self._open_one(number, reads=reads) for number in numbers))

    async def close(self) -> None:
        """End them all."""
        for reader in self._readers:
            reader.cancel()
        for call in self._calls:
            call.cancel()
        for channel in self._channels:
            await channel.close(None)

    async def _open_one(self, number: int, *, reads: bool) -> None:
        call = self._stub().Session()
        self._calls.append(call)
        for request in encode_open(self._message(number, reads=reads), 65536):
            await call.write(request)
        assert (await call.read()).WhichOneof("message") == "opened"
        if reads:
            self._readers.append(asyncio.create_task(self._read(call)))

    def _message(self, number: int, *, reads: bool) -> OpenSession:
        return OpenSession(
            tuple(1 + (number * 7 + i * (1 + number // 150)) % 150 for i in range(PROMPT_TOKENS)),
            PROMPT_TOKENS,
            POSITIONS - PROMPT_TOKENS,
            SamplingParams(),
            self._spec.tokenizer_fingerprint,
            num_top_logprobs=None if reads else TOP_LOGPROBS,
        )

    def _stub(self) -> Any:
        if len(self._calls) % SESSIONS_PER_CHANNEL == 0:
            self._channels.append(
                grpc.aio.insecure_channel(
                    self._address, options=(*self._options, ("own", len(self._channels)))
                )
            )
        return VerifierServiceStub(self._channels[-1])  # type: ignore[no-untyped-call]

    async def _read(self, call: Any) -> None:
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            self.num_tokens += len(response.commit.tokens)


class Verifier:
    """A verifier process."""

    def __init__(self, process: "subprocess.Popen[str]", address: str) -> None:
        self._pid = process.pid
        self.address = address

    @property
    def resident_mib(self) -> float:
        """Memory that it holds now."""
        text = Path(f"/proc/{self._pid}/status").read_text()
        return int(text.partition("VmRSS:")[2].split()[0]) / 1024

    def passes(self) -> tuple[float, float, float]:
        """How many passes there were, seconds in them, and rows."""
        url = f"http://127.0.0.1:{METRICS_PORT}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        found = {
            line.split("{")[0].split()[0]: float(line.split()[-1])
            for line in lines
            if line[0] != "#"
        }
        name = "outrider_verifier_pass"
        return (
            found[f"{name}_seconds_count"],
            found[f"{name}_seconds_sum"],
            found[f"{name}_rows_sum"],
        )


@contextlib.contextmanager
def running(model: str, *options: str) -> Iterator[Verifier]:
    """One, ready."""
    command = [sys.executable, "-m", "outrider", "verifier", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", model, "--metrics-port", str(METRICS_PORT), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready is not None, "the verifier did not start"
        yield Verifier(process, ready.group(1))
    finally:
        process.kill()
        process.wait(timeout=60)


async def window(verifier: Verifier, active: Edges, seconds: float) -> Figures:
    """What happens in so many seconds."""
    num_passes, passes_s, _ = verifier.passes()
    num_tokens, began = active.num_tokens, time.perf_counter()
    lags = await lags_s(verifier.address, seconds)
    elapsed = time.perf_counter() - began
    num_tokens = active.num_tokens - num_tokens
    later, later_s, _ = verifier.passes()
    num_passes = max(later - num_passes, 1)
    pass_s = (later_s - passes_s) / num_passes
    return Figures(
        verifier.resident_mib,
        num_tokens / elapsed,
        pass_s * 1e3,
        (elapsed / num_passes - pass_s) * 1e3,
        statistics.median(lags) * 1e3,
        max(lags) * 1e3,
    )


async def at_rest(verifier: Verifier, num_active: int) -> None:
    """Until passes serve the active ones alone."""
    rows_per_pass = float("inf")
    while rows_per_pass > num_active + 1:
        before, _, rows_before = verifier.passes()
        await asyncio.sleep(2)
        after, _, rows_after = verifier.passes()
        rows_per_pass = (rows_after - rows_before) / max(after - before, 1)


async def lags_s(address: str, seconds: float) -> list[float]:
    """How long the verifier's loop takes to answer a question, every tenth of a second."""
    lags, end = [], time.perf_counter() + seconds
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = VerifierServiceStub(channel)  # type: ignore[no-untyped-call]
        while (began := time.perf_counter()) < end:
            await stub.GetModelInfo(pb.GetModelInfoRequest())
            lags.append(time.perf_counter() - began)
            await asyncio.sleep(0.1)
    return lags


@contextlib.asynccontextmanager
async def edges(
    address: str, spec: SyntheticSpec, options: Sequence[tuple[str, int]] = ()
) -> AsyncIterator[Edges]:
    """Without sessions yet."""
    opened = Edges(address, spec, options)
    try:
        yield opened
    finally:
        await opened.close()


async def measure(
    verifier: Verifier,
    spec: SyntheticSpec,
    num_idle: int,
    num_active: int,
    way: str,
    seconds: float,
) -> list[tuple[str, Figures]]:
    """The active ones alone, then beside the idle ones."""
    narrow = (("grpc.http2.lookahead_bytes", UNREAD_BYTES), ("grpc.http2.bdp_probe", 0))
    async with (
        edges(verifier.address, spec) as active,
        edges(verifier.address, spec, narrow if way == "unread" else ()) as idle,
    ):
        empty = verifier.resident_mib
        rows = [("nobody", Figures(empty, 0, 0, 0, 0, 0))]
        await active.open(num_active, reads=True)
        await asyncio.sleep(2)
        rows.append((f"{num_active} active", await window(verifier, active, seconds)))
        await idle.open(num_idle, reads=way == "waiting")
        await at_rest(verifier, num_active)
        name = f"{num_active} active, {num_idle} {way}"
        rows.append((name, await window(verifier, active, seconds)))
    return rows


def print_table(rows: Sequence[tuple[str, Figures]]) -> None:
    """One line for each."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        "| sessions | resident, MiB | tokens/s | a pass, ms | between passes, ms "
        "| answer to a question, ms (slowest) |\n|---|---|---|---|---|---|"
    )
    for name, one in rows:
        console.print(
            f"| {name} | {one.resident_mib:.0f} | {one.tokens_per_s:.0f} | {one.pass_ms:.1f} "
            f"| {one.host_ms:.1f} | {one.lag_ms:.0f} ({one.slowest_lag_ms:.0f}) |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--active", type=int, default=500)
    parser.add_argument("--way", choices=IDLE_WAYS, default=IDLE_WAYS[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    options = parser.parse_args()
    model = (
        f"synthetic:vocab=200,acceptance=0.8,c0=20ms,c1=0.02ms,positions={POSITIONS},kv_bytes=64"
    )
    room = options.active + (options.idle if options.way == "unread" else 0)
    flags = {
        "max-sessions": room,
        "max-waiting-sessions": options.idle,
        "rows-per-pass": ROWS_PER_PASS,
        "slow-reader-s": 0,
        "kv-cache-mib": 192,
        "own-guesses": 0,
    }
    with running(model, *(f"--{name}={value}" for name, value in flags.items())) as verifier:
        rows = asyncio.run(
            measure(
                verifier,
                SyntheticSpec.parse(model),
                options.idle,
                options.active,
                options.way,
                options.seconds,
            )
        )
    print_table(rows)


if __name__ == "__main__":
    main()
