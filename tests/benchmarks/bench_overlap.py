"""Benchmark of what the engine's host adds: from pass to pass, beside the time that a pass takes.

The target is synthetic: its passes take a stated time in which the host is free, as on a GPU. The
engine runs on its own thread; edges live on an event loop in another one, as a service's streams
do, encode every commit, and keep a chain of right guesses ahead of it. See `--help`.
"""

import argparse
import asyncio
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Final

from bench_ways import open_message
from rich.console import Console

from outrider_cloud.engine import EngineEvent, EngineSession, Sink
from outrider_cloud.scheduler import Grant, Load, Offer, PassOutcome, Schedule
from outrider_cloud.server import engine_around
from outrider_cloud.synthetic_target import SyntheticTarget
from outrider_common.errors import OutriderError
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_common.wire import EventEncoder

NUM_PAGES: Final = 20_000
WARM_UPS: Final = 8
PASSES_AHEAD: Final = 3
"""An edge keeps guesses for so many passes in flight, so that no pass lacks any."""


class EveryoneScheduler:
    """All sessions in every pass, each with so many draft nodes at most.

    Args:
        num_nodes: of a session in a pass.
    """

    def __init__(self, num_nodes: int) -> None:
        self._num_nodes = num_nodes
        self.outcomes: list[PassOutcome] = []

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        """See `Scheduler.schedule`."""
        return Schedule(
            [Grant(load.key, 0, min(len(load.node_values), self._num_nodes)) for load in loads]
        )

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Costs do not matter here."""

    def observe(self, outcome: PassOutcome) -> None:
        """Keep it."""
        self.outcomes.append(outcome)

    @property
    def offer(self) -> Offer:
        """Room for all nodes that are sent, at no price."""
        return Offer((PASSES_AHEAD + 1) * (self._num_nodes + 1), 0.0)


class PassEnds:
    """Sleeps for a target, and notes when it wakes up: then a pass has ended."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def sleep(self, seconds: float) -> None:
        """As a pass that runs for so long still."""
        time.sleep(seconds)
        self.readings.append(time.perf_counter())


class LoopEdge:
    """One session's edge on an event loop.

    Args:
        text: what the target writes, behind a prompt of one token.
        num_nodes: that a pass checks.
        ends: of passes.
    """

    def __init__(self, text: Sequence[int], num_nodes: int, ends: PassEnds) -> None:
        self._text = text
        self._num_ahead = PASSES_AHEAD * (num_nodes + 1) if num_nodes else 0
        self._ends = ends
        self._length = 1
        self._num_drafted = 0
        self._encoder = EventEncoder(self._length)
        self.lags_s: list[float] = []
        self.is_finished = False
        self.session: EngineSession | None = None

    def take(self, event: EngineEvent) -> None:
        """Encode a commit, and draft as far ahead of it as there is room."""
        if isinstance(event, OutriderError):
            raise event
        self._encoder.encode(event).SerializeToString()
        self._length += len(event.tokens)
        self.is_finished = event.finish_reason is not None
        if not self.is_finished:
            self.draft()
        self.lags_s.append(time.perf_counter() - self._ends.readings[-1])

    def draft(self) -> None:
        """Hang the next guesses behind the last ones: the node at position i has the id i."""
        until = min(self._length + self._num_ahead, len(self._text))
        positions = range(self._num_drafted + 1, until)
        nodes = [
            DraftNode(i, self._text[i], AtNode(i - 1) if i > 1 else AtPosition(0))
            for i in positions
        ]
        if nodes and self.session is not None:
            self._num_drafted = nodes[-1].node_id
            self.session.extend(nodes)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one number of sessions with one number of nodes.

    Attributes:
        num_sessions: in every pass.
        num_nodes: drafted, of each session in a pass.
        num_rows: of a pass, the median.
        pass_ms: that the target takes for so many.
        period_ms: from the end of a pass to that of the next one, the median.
        spread_ms: the lower and upper quartile of that.
        lag_ms: from the end of a pass until an edge has its commit and has drafted, the median.
    """

    num_sessions: int
    num_nodes: int
    num_rows: int
    pass_ms: float
    period_ms: float
    spread_ms: tuple[float, float]
    lag_ms: float

    @property
    def ratio(self) -> float:
        """From pass to pass, as a multiple of a pass."""
        return self.period_ms / self.pass_ms


def measure(spec: SyntheticSpec, num_sessions: int, num_nodes: int, num_passes: int) -> Figures:
    """Run so many passes with all sessions in each, and some before them."""
    ends, scheduler = PassEnds(), EveryoneScheduler(num_nodes)
    settings = VerifierSettings(
        max_sessions=num_sessions, max_nodes_per_session=(PASSES_AHEAD + 1) * (num_nodes + 1)
    )
    engine = engine_around(
        SyntheticTarget(spec, NUM_PAGES, sleep=ends.sleep), scheduler, settings, ""
    )
    num_tokens = (WARM_UPS + num_passes) * (num_nodes + 1)
    texts = [a_text(spec, session, num_tokens) for session in range(num_sessions)]
    edges = [LoopEdge(text, num_nodes, ends) for text in texts]
    with running_loop() as loop:
        for edge, text in zip(edges, texts, strict=True):
            message = open_message(text[:1], num_tokens, engine.info)
            edge.session = engine.open(message, sink_onto(loop, edge))
            edge.draft()
        engine.start()
        while not all(edge.is_finished for edge in edges):
            time.sleep(0.05)
        engine.stop()
    num_rows = statistics.median_low(outcome.num_rows for outcome in scheduler.outcomes)
    periods = [1e3 * (end - begin) for begin, end in pairwise(ends.readings[WARM_UPS:-2])]
    lower, median, upper = statistics.quantiles(periods, n=4)
    return Figures(
        num_sessions=num_sessions,
        num_nodes=num_nodes,
        num_rows=num_rows,
        pass_ms=1e3 * spec.pass_s(num_rows),
        period_ms=median,
        spread_ms=(lower, upper),
        lag_ms=1e3 * statistics.median(lag for edge in edges for lag in edge.lags_s[WARM_UPS:]),
    )


def a_text(spec: SyntheticSpec, session: int, num_tokens: int) -> tuple[int, ...]:
    """What the target writes behind a prompt of one token, of each session another one."""
    text = [1 + session % (spec.vocab - 1)]
    for _ in range(num_tokens):
        text.append(next_token(spec, text))
    return tuple(text)


def sink_onto(loop: asyncio.AbstractEventLoop, edge: LoopEdge) -> Sink:
    """A sink that hands events to an edge on the loop, as a service's does."""

    def sink(event: EngineEvent) -> None:
        loop.call_soon_threadsafe(edge.take, event)

    return sink


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="edges")
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def render(spec: SyntheticSpec, cells: Sequence[Figures]) -> str:
    """A table."""
    return "\n".join(_lines(spec, cells))


def _lines(spec: SyntheticSpec, cells: Sequence[Figures]) -> Iterator[str]:
    yield f"Passes of `{spec}`; medians, and quartiles in brackets."
    yield ""
    yield "| sessions | nodes each | rows | pass | pass to pass | of a pass | commit at the edge |"
    yield "|---|---|---|---|---|---|---|"
    for cell in cells:
        lower, upper = cell.spread_ms
        yield (
            f"| {cell.num_sessions} | {cell.num_nodes} | {cell.num_rows} | {cell.pass_ms:.1f} ms "
            f"| {cell.period_ms:.1f} ms ({lower:.1f}-{upper:.1f}) | {cell.ratio:.3f} "
            f"| {cell.lag_ms:.1f} ms |"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit status."""
    parser = argparse.ArgumentParser(description="Measure what the engine's host adds to passes.")
    parser.add_argument(
        "--target",
        type=SyntheticSpec.parse,
        default=SyntheticSpec(c0_s=0.02, c1_s=0.00005),
        metavar="SPEC",
        help="synthetic:... (default: 20 ms and 0.05 ms a row)",
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=(1, 64, 256), metavar="N")
    parser.add_argument("--nodes", type=int, nargs="+", default=(0, 4), metavar="N")
    parser.add_argument("--passes", type=int, default=50, metavar="N")
    options = parser.parse_args(arguments)
    cells = [
        measure(options.target, num_sessions, num_nodes, options.passes)
        for num_sessions, num_nodes in product(options.sessions, options.nodes)
    ]
    Console().print(render(options.target, cells), markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
