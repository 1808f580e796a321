"""Benchmark of fail-over: from a break in the middle of an answer to the next token.

Two verifiers with the synthetic target, each behind an emulated link. While an answer is written,
the link to its verifier is reset, or freezes; the answer goes on at the other one. Prints a table.
"""

import argparse
import asyncio
import dataclasses
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from rich.console import Console

from outrider_bench.link import LinkEmulator
from outrider_bench.processes import running_verifier
from outrider_bench.profile import LinkProfile
from outrider_bench.synthetic_edge import synthetic_runtime
from outrider_common.sampling import SamplingParams
from outrider_edge import verifier_pool
from outrider_edge.generation import GenerationRequest
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.runtime import EdgeRuntime
from outrider_edge.verifier_pool import VerifierPool
from outrider_models.store import default_root

TARGET: Final = "synthetic:vocab=200,acceptance=0.8,c0=20ms,c1=0.2ms,positions=1024"
LEVEL_S: Final = 0.004
TOKENS_BEFORE: Final = 24
TOKENS_AFTER: Final = 8
ROUND_TRIPS_MS: Final = (0, 50, 100, 200)
HOWS: Final = ("reset", "freeze")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure how long fail-over takes.")
    parser.add_argument("--rounds", type=int, default=5, help="of each cell (default: 5)")
    options = parser.parse_args(arguments)
    verifier_pool.PROBE_EVERY_S = 0.2  # type: ignore[misc]  # so that rounds need not wait long
    store = default_root()
    with (
        running_verifier(TARGET, store, None) as one,
        running_verifier(TARGET, store, None) as other,
    ):
        rows = asyncio.run(measure((one, other), options.rounds))
    text = "\n".join(
        ("| how | round trip, ms | break to next token, ms | slowest |", "|-|-|-|-|", *rows)
    )
    Console().print(text, markup=False, highlight=False, soft_wrap=True)


async def measure(addresses: Sequence[str], num_rounds: int) -> list[str]:
    """One row for each fault and round trip."""
    rows = []
    for round_trip_ms in ROUND_TRIPS_MS:
        async with linked(addresses, round_trip_ms / 1000) as (links, runtime, pool):
            for how in HOWS:
                times = [
                    await break_to_token_s(links, runtime, pool, how, i) for i in range(num_rounds)
                ]
                middle, most = statistics.median(times) * 1e3, max(times) * 1e3
                rows.append(f"| {how} | {round_trip_ms} | {middle:.0f} | {most:.0f} |")
    return rows


@asynccontextmanager
async def linked(
    addresses: Sequence[str], round_trip_s: float
) -> AsyncIterator[tuple[list[LinkEmulator], EdgeRuntime, VerifierPool]]:
    """Both verifiers over links, and an edge that knows both."""
    async with AsyncExitStack() as stack:
        profile = LinkProfile(rtt_s=round_trip_s)
        links = [
            await stack.enter_async_context(LinkEmulator(profile, address)) for address in addresses
        ]
        runtime = await stack.enter_async_context(synthetic_runtime(addresses[0], TARGET, LEVEL_S))

        async def resolve() -> list[str]:
            return [link.address for link in links]

        pool = VerifierPool(resolve, GrpcLink, lambda _info: None)
        stack.push_async_callback(pool.close)
        await pool.meet()
        await stack.enter_async_context(pool.kept())
        yield links, dataclasses.replace(runtime, link=pool.serving(runtime.info.model)), pool


async def break_to_token_s(
    links: Sequence[LinkEmulator], runtime: EdgeRuntime, pool: VerifierPool, how: str, number: int
) -> float:
    """From a fault to the first token after it that did not come from before it."""
    await until_ready(pool)
    broken_at_s = 0.0
    gaps: list[float] = []

    def see(record: Any) -> None:
        nonlocal broken_at_s
        if broken_at_s:
            gaps.append(time.perf_counter() - broken_at_s)
        elif record.position >= 64 + TOKENS_BEFORE:
            victim = next(m.address for m in pool.members if m.num_open)
            link = next(link for link in links if link.address == victim)
            link.reset_all() if how == "reset" else link.freeze()
            broken_at_s = time.perf_counter()

    prompt = tuple(1 + (number * 7 + i) % 150 for i in range(64))
    request = GenerationRequest(
        prompt, TOKENS_BEFORE + 64 + TOKENS_AFTER, SamplingParams(), ignore_eos=True
    )
    result = await runtime.generate(request, see)
    for link in links:
        link.thaw()
    assert result.stats.num_resumes == 1
    return max(later - earlier for earlier, later in zip([0.0, *gaps], gaps, strict=False))


async def until_ready(pool: VerifierPool) -> None:
    """Until all verifiers have been asked again and answered."""
    while any(not member.availability.is_usable for member in pool.members):  # noqa: ASYNC110
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    main()
