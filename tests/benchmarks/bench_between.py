"""Benchmark of the host's work between two passes, as processor time for each session.

The target is synthetic and takes no time; edges take their commits and draft while a pass runs, as
they would, so that neither counts. What is left is accepting, committing, scheduling and planning,
and beside it laying the pass out as arrays. See `--help`.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from bench_overlap import NUM_PAGES, PASSES_AHEAD, LoopEdge, PassEnds, a_text
from bench_ways import open_message
from rich.console import Console

from outrider_cloud.pass_cost import PassCost
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.server import engine_around, leave_to_stay
from outrider_cloud.synthetic_target import SyntheticLogits, SyntheticPass, SyntheticTarget
from outrider_cloud.target import Segment
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.synthetic import SyntheticSpec

WARM_UPS: Final = 5
SPEC: Final = SyntheticSpec(c0_s=0.0, c1_s=0.0)


class FreeRows(PassCost):
    """Learns nothing of time, so that every draft is worth a row."""

    def observe(self, num_rows: int, seconds: float) -> None:
        """See `PassCost.observe`."""


class WatchedTarget(SyntheticTarget):
    """Notes for how long the host was busy between two passes, and how long laying one out takes.

    By the processor time of the engine's thread: others may use the machine, too.

    Args:
        ends: what edges measure by.
    """

    def __init__(self, ends: PassEnds) -> None:
        super().__init__(SPEC, NUM_PAGES)
        self._ends = ends
        self._ended_at: float | None = None
        self.between_s: list[float] = []
        self.layout_s: list[float] = []

    def begin(self, segments: Sequence[Segment]) -> SyntheticPass:
        """See `SyntheticTarget.begin`."""
        began = time.thread_time()
        if self._ended_at is not None:
            self.between_s.append(began - self._ended_at)
        PassLayout.of(segments, self.cache_shape.page_tokens)
        self.layout_s.append(time.thread_time() - began)
        return WatchedPass(super().begin(segments).result(), self._end)

    def _end(self) -> None:
        self._ends.sleep(0.0)
        self._ended_at = time.thread_time()


class WatchedPass(SyntheticPass):
    """Says when somebody has its result.

    Args:
        logits: what it yields.
        end: called when they are asked for.
    """

    def __init__(self, logits: SyntheticLogits, end: Callable[[], None]) -> None:
        super().__init__(logits, 0.0, time.sleep, time.perf_counter)
        self._end = end

    def result(self) -> SyntheticLogits:
        """See `RunningPass.result`."""
        self._end()
        return super().result()


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one number of sessions with one number of nodes.

    Attributes:
        num_sessions: in every pass.
        num_nodes: drafted, of each session in a pass.
        between_us: of the engine, for each session: the least, and the median.
        layout_us: of laying a pass out, for each session, likewise.
    """

    num_sessions: int
    num_nodes: int
    between_us: tuple[float, float]
    layout_us: tuple[float, float]


def measure(num_sessions: int, num_nodes: int, num_passes: int) -> Figures:
    """Run so many passes with all sessions in each, and some before them."""
    ends = PassEnds()
    target = WatchedTarget(ends)
    num_rows = num_sessions * (num_nodes + 1)
    limits = PackingLimits(num_rows, num_nodes, 64, (PASSES_AHEAD + 1) * (num_nodes + 1), 0.0)
    settings = VerifierSettings(
        max_sessions=num_sessions, max_nodes_per_session=(PASSES_AHEAD + 1) * (num_nodes + 1)
    )
    scheduler = PackingScheduler(limits, cost=FreeRows())
    scheduler.calibrate([(1, 0.02), (num_rows + 1, 0.02)])  # as a verifier does when it starts
    engine = engine_around(target, scheduler, settings, "")
    num_tokens = (WARM_UPS + num_passes) * (num_nodes + 1)
    edges = []
    for session in range(num_sessions):
        text = a_text(SPEC, session, num_tokens)
        edge = LoopEdge(text, num_nodes, ends)
        edge.session = engine.open(open_message(text[:1], num_tokens, engine.info), edge.take)
        edge.draft()
        edges.append(edge)
    engine.start()  # its thread hands commits to the edges while a pass runs, and only then
    while not all(edge.is_finished for edge in edges):
        time.sleep(0.05)
    engine.stop()
    return Figures(
        num_sessions,
        num_nodes,
        _per_session(target.between_s, num_sessions),
        _per_session(target.layout_s, num_sessions),
    )


def _per_session(seconds: Sequence[float], num_sessions: int) -> tuple[float, float]:
    """The least and the median after the warm-ups, in microseconds for each session."""
    each = [1e6 * one / num_sessions for one in seconds[WARM_UPS:]]
    return min(each), statistics.median(each)


def render(cells: Sequence[Figures]) -> str:
    """A table."""
    lines = [
        "Microseconds for each session: the least of all passes, and the median in brackets.",
        "",
        "| sessions | nodes each | between two passes | laying one out |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {cell.num_sessions} | {cell.num_nodes} | {cell.between_us[0]:.1f} "
        f"({cell.between_us[1]:.1f}) | {cell.layout_us[0]:.1f} ({cell.layout_us[1]:.1f}) |"
        for cell in cells
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit status."""
    parser = argparse.ArgumentParser(description="Measure the host's work between two passes.")
    parser.add_argument("--sessions", type=int, nargs="+", default=(1, 64, 256, 1000), metavar="N")
    parser.add_argument("--nodes", type=int, nargs="+", default=(0, 4), metavar="N")
    parser.add_argument("--passes", type=int, default=30, metavar="N")
    options = parser.parse_args(arguments)
    cells = [measure(*cell, options.passes) for cell in product(options.sessions, options.nodes)]
    Console().print(render(cells), markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    leave_to_stay()  # as a verifier does when it is ready
    sys.exit(main())
