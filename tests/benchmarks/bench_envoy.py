"""Benchmark of Envoy as shipped: what it adds to a message's way to a verifier and back.

One synthetic verifier, asked directly and through Envoy in turn, over connections that stay open.
Prints a table: see `--help`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from proxied_replicas import running_envoy, running_replicas

from outrider_edge.grpc_link import GrpcLink


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what Envoy adds to a round trip.")
    parser.add_argument("--trips", type=int, default=2000, help="each way (default: 2000)")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as directory,
        running_replicas(1) as replicas,
        running_envoy([one.port for one in replicas], Path(directory)) as envoy,
    ):
        direct, through = asyncio.run(_measure(replicas[0].address, envoy, options.trips))
    console = Console()
    console.print("| round trip | median | 99 % |")
    console.print("|---|---|---|")
    for way, times in (("direct", direct), ("through Envoy", through)):
        tail = sorted(times)[int(len(times) * 0.99)]
        console.print(f"| {way} | {statistics.median(times):.2f} ms | {tail:.2f} ms |")
    added = statistics.median(b - a for a, b in zip(direct, through, strict=True))
    console.print(f"\nEnvoy adds {added:.2f} ms (median of {len(direct)} pairs).")


async def _measure(direct: str, envoy: str, trips: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each trip, the two ways in turn."""
    times: tuple[list[float], list[float]] = ([], [])
    async with GrpcLink(direct) as one, GrpcLink(envoy) as other:
        for _ in range(trips):
            for link, kept in zip((one, other), times, strict=True):
                began = time.perf_counter()
                await link.model_info()
                kept.append((time.perf_counter() - began) * 1e3)
    return times


if __name__ == "__main__":
    main()
