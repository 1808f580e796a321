"""Benchmark of the verifier's metrics: what counting costs a pass, and what a scrape takes.

A synthetic target whose passes take no time, so that only the engine's own work is left; engines
that count and engines that do not take turns. Prints a table: see `--help`.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from bench_runs import by_label, interleaved
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine_meters import EngineMeters
from outrider_cloud.scheduler import PackingScheduler
from outrider_cloud.server import engine_around, packing_scheduler
from outrider_cloud.synthetic_target import SyntheticTarget
from outrider_cloud.verifier_metrics import VerifierCollector
from outrider_common.messages import OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.synthetic import SyntheticSpec

SPEC: Final = SyntheticSpec(c0_s=0.0, c1_s=0.0, positions=4096)
PAGE_TOKENS: Final = 16
PASSES: Final = 5
NUM_TENANTS: Final = 120
COUNTING: Final = "counting"
NOT: Final = "not counting"


class NoMeters(EngineMeters):
    """Meters that take calls and do nothing."""

    def _nothing(self, *_: Any, **__: Any) -> None:
        """Take it and forget it."""

    computed = served = committed = let_in = ended = _nothing


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the verifier's metrics.")
    parser.add_argument("--rounds", type=int, default=100, help="of each row (default: 100)")
    parser.add_argument("--sessions", type=int, nargs="*", default=[16, 64, 256, 1000])
    options = parser.parse_args(arguments)
    console = Console()
    console.print("| sessions | counting, µs a pass | of which a session, µs | a scrape, ms |")
    console.print("|---|---|---|---|")
    for num_sessions in options.sessions:
        console.print(_row(num_sessions, options.rounds))


def _row(num_sessions: int, rounds: int) -> str:
    engines = {
        COUNTING: _engine(num_sessions, EngineMeters()),
        NOT: _engine(num_sessions, NoMeters()),
    }
    ways = {label: partial(_pass_s, engine) for label, engine in engines.items()}
    times = by_label(list(interleaved(ways, rounds)))
    extra = [one - other for one, other in zip(times[COUNTING], times[NOT], strict=True)]
    cost_us = statistics.median(extra) * 1e6
    scrape_ms = statistics.median(_scrape_s(engines[COUNTING]) for _ in range(20)) * 1e3
    return f"| {num_sessions} | {cost_us:.0f} | {cost_us / num_sessions:.2f} | {scrape_ms:.1f} |"


def _engine(num_sessions: int, meters: EngineMeters) -> BatchingEngine:
    settings = VerifierSettings(max_sessions=num_sessions, rows_per_pass=num_sessions)
    target = SyntheticTarget(SPEC, num_sessions * 300, PAGE_TOKENS)
    scheduler: PackingScheduler = packing_scheduler(settings)
    engine = engine_around(target, scheduler, settings, SPEC.tokenizer_fingerprint)
    engine._meters = meters
    for number in range(num_sessions):
        prompt = (1 + number % 150, 1 + number // 150)
        engine.open(_message(prompt), lambda _: None, f"tenant-{number % NUM_TENANTS}")
    while any(session.is_prefilling for session in engine._book.running) or engine._book.waiting:
        engine.step()
    return engine


def _message(prompt: tuple[int, ...]) -> OpenSession:
    return OpenSession(
        prefix=prompt,
        num_prompt_tokens=len(prompt),
        max_tokens=4000,
        sampling=SamplingParams(),
        tokenizer_fingerprint=SPEC.tokenizer_fingerprint,
        ignore_eos=True,
    )


def _pass_s(engine: BatchingEngine) -> float:
    began = time.perf_counter()
    for _ in range(PASSES):
        engine.step()
    return (time.perf_counter() - began) / PASSES


def _scrape_s(engine: BatchingEngine) -> float:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(VerifierCollector(engine))
    began = time.perf_counter()
    generate_latest(registry)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
