"""The charts of a report: speed-up over the round trip, capacity and latency over
sessions.

Pure: results in, charts out. Knows nothing of pages or files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from outrider_bench.formulas import Formulas, Pace
from outrider_bench.lineup import BASELINE, PLANS
from outrider_bench.results import BenchResults, Cell
from outrider_charts.line_chart import LineChart, Point, Series
from outrider_common.synthetic import SyntheticSpec

FIRST_CHOICE: Final = "auto"
"""The policy to look at."""

_LOOKS: Final = {
    "auto": 0,
    "stop-and-wait-tuned": 1,
    "chain": 2,
    "colocated": 3,
    "tree": 4,
    "one-ahead": 5,
    BASELINE: 6,
    "stop-and-wait": 8,
    "assisted": 10,
    "cloud-lookup": 13,
    "assisted-lookup": 17,
    "transformers": 20,
}
"""Colour and dashes of each policy, the same in every chart; others take what is left."""

_NUM_FORMULA_POINTS: Final = 81


class Panel(NamedTuple):
    """What stays the same in one chart; None is what runs along its axis."""

    pair: str
    temperature: float
    bandwidth_mbps: float | None
    sessions: int | None
    rtt_ms: float | None

    def __str__(self) -> str:
        heat = f"temperature {self.temperature:g}" if self.temperature else "greedy"
        width = None if self.bandwidth_mbps is None else f"{self.bandwidth_mbps:g} Mbit/s"
        many = None if self.sessions in (None, 1) else f"{self.sessions} sessions"
        rtt = None if self.rtt_ms is None else f"round trip {self.rtt_ms:g} ms"
        return ", ".join(part for part in (_shown(self.pair), heat, width, many, rtt) if part)


def _shown(pair: str) -> str:
    """What a pair is called in headings: a synthetic target's whole text is long."""
    return SyntheticSpec.parse(pair).summary if SyntheticSpec.is_meant_by(pair) else pair


@dataclass(frozen=True, slots=True)
class Panels:
    """Cells, gathered by what runs along an axis.

    Attributes:
        by_rtt: all cells.
        by_sessions: those where there is more than one number of sessions.
    """

    by_rtt: dict[Panel, list[Cell]]
    by_sessions: dict[Panel, list[Cell]]

    @property
    def over_rtt(self) -> dict[Panel, list[Cell]]:
        """Those where there is more than one round trip."""
        return {
            panel: cells
            for panel, cells in self.by_rtt.items()
            if len({cell.rtt_ms for cell in cells}) > 1
        }

    @classmethod
    def of(cls, results: BenchResults) -> "Panels":
        """Those of all cells."""
        by_rtt: dict[Panel, list[Cell]] = {}
        by_sessions: dict[Panel, list[Cell]] = {}
        for cell in results.cells:
            fixed = cell.pair, cell.temperature, cell.bandwidth_mbps
            by_rtt.setdefault(Panel(*fixed, cell.sessions, None), []).append(cell)
            by_sessions.setdefault(Panel(*fixed, None, cell.rtt_ms), []).append(cell)
        many = {
            panel: cells
            for panel, cells in by_sessions.items()
            if len({cell.sessions for cell in cells}) > 1
        }
        return cls(by_rtt, many)


def policies_of(cells: Iterable[Cell]) -> list[str]:
    """The policies that are there, in the order in which they are shown."""
    there = dict.fromkeys(cell.policy for cell in cells)
    return [*(name for name in PLANS if name in there), *(n for n in there if n not in PLANS)]


def formulas_of(cells: Sequence[Cell], paces: dict[str, Pace]) -> Formulas | None:
    """The formulas with what was measured in a panel; None where too little is known.

    The acceptance is that of a chain at the shortest round trip, or of another policy that drafts.
    """
    nearest = sorted(cells, key=lambda cell: cell.rtt_ms)
    plain = [c.tokens_per_s for c in nearest if c.policy == BASELINE and c.tokens_per_s]
    rates = {c.policy: c.acceptance_rate for c in reversed(nearest) if c.acceptance_rate}
    pace = paces.get(cells[0].pair)
    if not plain or not rates or pace is None:
        return None
    acceptance = rates.get("chain") or next(iter(rates.values()))
    return Formulas(pace, 1 / plain[0], min(acceptance, 1 - 1e-6))


def speedup_chart(panel: Panel, cells: Sequence[Cell], formulas: Formulas | None) -> LineChart:
    """Speed-up against the cloud alone over the round trip, one line for each policy."""
    rtts = tuple(sorted({cell.rtt_ms for cell in cells}))
    measured = _series(cells, _speedup_point)
    return LineChart(
        str(panel),
        x_label="round trip, ms",
        y_label="tokens/s of a session against the cloud alone; bands: smallest to largest round",
        x_ticks=rtts,
        series=(*measured, *_formula_lines(formulas, rtts[-1])),
        reference=1.0,
        is_root=True,
    )


def capacity_chart(panel: Panel, cells: Sequence[Cell]) -> LineChart:
    """Tokens a second of all sessions together over their number."""
    label = "tokens/s of all sessions together; bands: smallest to largest round"
    return _over_sessions(panel, cells, label, _capacity_point)


def latency_chart(panel: Panel, cells: Sequence[Cell]) -> LineChart:
    """The time per token of one session over their number."""
    label = "ms per token of a session, median of the answers; bands: to the 95th percentile"
    return _over_sessions(panel, cells, label, _latency_point)


def _over_sessions(
    panel: Panel, cells: Sequence[Cell], label: str, point: Callable[[Cell], Point | None]
) -> LineChart:
    return LineChart(
        str(panel),
        x_label="sessions",
        y_label=label,
        x_ticks=tuple(sorted({float(cell.sessions) for cell in cells})),
        series=tuple(_series(cells, point)),
        is_root=True,
    )


def _series(cells: Sequence[Cell], point_of: Callable[[Cell], Point | None]) -> list[Series]:
    series = []
    for place, policy in enumerate(policies_of(cells)):
        points = [point_of(cell) for cell in cells if cell.policy == policy]
        known = sorted((p for p in points if p is not None), key=lambda point: point.x)
        look = _LOOKS.get(policy, len(_LOOKS) + place)
        series.append(Series(policy, tuple(known), look, is_bold=policy == FIRST_CHOICE))
    return series


def _speedup_point(cell: Cell) -> Point | None:
    if cell.speedup_vs_cloud is None:
        return None
    spread = cell.speedup_vs_cloud_min, cell.speedup_vs_cloud_max
    return Point(cell.rtt_ms, cell.speedup_vs_cloud, *spread)


def _capacity_point(cell: Cell) -> Point | None:
    spread = cell.total_tokens_per_s_min, cell.total_tokens_per_s_max
    return Point(cell.sessions, cell.total_tokens_per_s, *spread)


def _latency_point(cell: Cell) -> Point | None:
    times = cell.tpot_ms
    return None if times is None else Point(cell.sessions, times.p50, times.p50, times.p95)


def _formula_lines(formulas: Formulas | None, longest_ms: float) -> list[Series]:
    if formulas is None:
        return []
    steps = [i / (_NUM_FORMULA_POINTS - 1) for i in range(_NUM_FORMULA_POINTS)]
    rtts = [longest_ms * step * step for step in steps]  # dense where the axis is wide
    return [
        Series(
            name,
            tuple(Point(rtt, formula(rtt / 1e3)) for rtt in rtts),
            _LOOKS[policy],
            is_thin=True,
        )
        for name, policy, formula in (
            ("stop-and-wait by formula", "stop-and-wait-tuned", formulas.stop_and_wait),
            ("chain by formula", "chain", formulas.chain),
        )
    ]
