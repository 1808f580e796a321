"""Benchmark of the daemon's HTTP layer: from when a token is committed to when a client has it.

The daemon is a process of its own over a runtime without models, whose tokens are the times at
which they were made; the client is a bare HTTP client that parses each chunk. Prints a table, with
the processor time that the daemon takes for a chunk.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx2
import uvicorn

TESTS: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS / "edge"))

from api_client import CHAT, HI, a_serving  # noqa: E402
from fake_runtime import FakeRuntime, a_record, a_result_stats  # noqa: E402

from outrider_common.messages import FinishReason  # noqa: E402
from outrider_edge.answer import OnToken  # noqa: E402
from outrider_edge.generation import GenerationRequest, GenerationResult  # noqa: E402
from outrider_edge.http_app import build_app  # noqa: E402
from outrider_edge.tracing import TraceRecorder  # noqa: E402

NUM_STREAMS: Final = (1, 16)
NUM_TOKENS: Final = 100
PAUSE_S: Final = 0.02
REPETITIONS: Final = 5
_MS: Final = 1000


class Clockwork(FakeRuntime):
    """Commits a token every `PAUSE_S`: the time."""

    async def _generate(
        self, request: GenerationRequest, on_token: OnToken, recorder: TraceRecorder
    ) -> GenerationResult:
        records = []
        for position in range(NUM_TOKENS):
            await asyncio.sleep(PAUSE_S)
            # CLOCK_MONOTONIC is the same in all processes of a machine.
            records.append(a_record(position, "x", f"{time.monotonic():.6f}"))
            on_token(records[-1])
        stats = a_result_stats(records)
        return GenerationResult("", FinishReason.STOP, tuple(records), stats)


def serve(file_descriptor: int) -> None:
    """The daemon's own process."""
    serving = a_serving(Clockwork(), max_concurrent_requests=max(NUM_STREAMS))
    config = uvicorn.Config(build_app(serving), http="h11", log_config=None, access_log=False)
    with socket.socket(fileno=file_descriptor) as listening:
        asyncio.run(uvicorn.Server(config).serve([listening]))


async def delays_of_one(client: httpx2.AsyncClient) -> list[float]:
    """How long each token of one stream was on its way, in seconds."""
    delays = []
    async with client.stream("POST", CHAT, json=HI | {"stream": True}) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                choices: list[Any] = json.loads(line.removeprefix("data: "))["choices"]
                made = choices and choices[0]["delta"].get("content")
                if made:
                    delays.append(time.monotonic() - float(made))
    return delays


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(url: str, pid: int) -> None:
    """Print one row for each number of streams: medians over the repetitions."""
    print("| streams | median, ms | 95th percentile, ms | daemon's CPU, ms |")  # noqa: T201
    print("|---|---|---|---|")  # noqa: T201
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await delays_of_one(client)
        for num_streams in NUM_STREAMS:
            middles, high, num_chunks, before_s = [], [], 0, cpu_s(pid)
            for _ in range(REPETITIONS):
                streams = (delays_of_one(client) for _ in range(num_streams))
                delays = [delay for one in await asyncio.gather(*streams) for delay in one]
                middles.append(statistics.median(delays))
                high.append(statistics.quantiles(delays, n=20)[-1])
                num_chunks += len(delays)
            figures = [f"{_MS * statistics.median(one):.2f}" for one in (middles, high)]
            figures.append(f"{_MS * (cpu_s(pid) - before_s) / num_chunks:.2f}")
            print(f"| {num_streams} | {' | '.join(figures)} |")  # noqa: T201


def main(arguments: Sequence[str] | None = None) -> None:
    """Start the daemon's process and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", type=int, metavar="FD", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        serve(options.serve)
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        descriptor, port = listening.fileno(), listening.getsockname()[1]
        command = [sys.executable, __file__, "--serve", str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor]) as daemon:
            try:
                asyncio.run(measure(f"http://127.0.0.1:{port}", daemon.pid))
            finally:
                daemon.terminate()


if __name__ == "__main__":
    main()
