"""The tables of a report, as values: headings and rows of text. Pure; knows nothing of HTML."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from outrider_bench.break_even import break_even
from outrider_bench.capacity import capacity
from outrider_bench.lineup import BASELINE
from outrider_bench.report_charts import Panel, Panels, policies_of
from outrider_bench.results import BenchResults, Cell, Quantiles

_NONE: Final = "–"

_YARDSTICK: Final = "colocated"
"""Whose times per token others are asked to keep to."""

_HASTE: Final[dict[str, Callable[[Cell], str]]] = {
    "tokens/s": lambda c: spread(c.tokens_per_s, c.tokens_per_s_min, c.tokens_per_s_max),
    "against the cloud": lambda c: spread(
        c.speedup_vs_cloud, c.speedup_vs_cloud_min, c.speedup_vs_cloud_max
    ),
    "first token, ms (p50 / p95)": lambda c: quantiles(c.ttft_ms, "p50", "p95"),
    "per token, ms (p50 / p95 / p99)": lambda c: quantiles(c.tpot_ms, "p50", "p95", "p99"),
}
_COST: Final[dict[str, Callable[[Cell], str]]] = {
    "acceptance": lambda c: short(c.acceptance_rate),
    "tokens/pass": lambda c: short(c.tokens_per_pass),
    "rows/token": lambda c: short(c.rows_per_token),
    "nodes sent/token": lambda c: short(c.draft_nodes_per_token),
    "wasted": lambda c: _NONE if c.wasted_fraction is None else f"{c.wasted_fraction:.0%}",
    "bytes up/token": lambda c: short(c.bytes_up_per_token),
    "bytes down/token": lambda c: short(c.bytes_down_per_token),
    "block": lambda c: _NONE if c.block_nodes is None else str(c.block_nodes),
}


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def facts(results: BenchResults) -> Table:
    """What was measured, where."""
    request, machine = results.request, results.machine
    rows = {
        "measured": results.measured_at + ("" if results.finished else ", not finished"),
        "processor": f"{machine.cpu}, {machine.num_cores} cores, {machine.system}",
        "pinned": _pairs(machine.pinned, "core "),
        "versions": _pairs(machine.versions),
        "verifier": _pairs(machine.verifier_settings),
        "target": request.target,
        "drafters": ", ".join(request.pairs),
        "prompts": f"{request.num_prompts} of {request.prompt_file or 'made-up ones'}, "
        f"up to {request.tokens} tokens each",
        "rounds": f"{request.rounds}, policies in turn within each",
        "other software": _pairs(machine.software),
    }
    return Table("What was measured", ("", ""), tuple((k, v) for k, v in rows.items() if v))


def exactness(cells: Sequence[Cell]) -> Table:
    """For each policy in how many cells its text was that of the cloud alone."""
    rows = []
    for policy in policies_of(cells):
        own = [cell for cell in cells if cell.policy == policy]
        promised = [cell for cell in own if cell.exact is not None]
        same = f"{sum(bool(cell.exact) for cell in promised)} of {len(promised)}"
        differing = str(sum(cell.mismatches for cell in own))
        tokens = sum(cell.tokens for cell in own)
        rows.append((policy, same if promised else "not promised", differing, f"{tokens:,}"))
    headings = ("policy", "cells with the text of the cloud alone", "differing tokens", "tokens")
    return Table("Exactness", headings, tuple(rows))


def is_exact(cells: Iterable[Cell]) -> bool:
    """Whether no cell that promises the text of the cloud alone has another."""
    return all(cell.exact for cell in cells if cell.exact is not None)


def break_evens(panels: Panels) -> Table:
    """For each policy and panel the round trip at which it stops paying."""
    there = panels.over_rtt
    policies = policies_of(cell for cells in there.values() for cell in cells)
    rows = [
        (policy, *(_break_even(cells, policy) for cells in there.values()))
        for policy in policies
        if policy != BASELINE
    ]
    headings = ("policy", *map(str, there))
    return Table("Where it stops paying: the break-even round trip", headings, tuple(rows))


def capacities(panels: Panels) -> list[Table]:
    """For each panel over sessions: how many of them each policy serves at the same time per token.

    The times are those of drafting beside the verifier, or of the cloud alone where nobody did.
    """
    tables = [_capacities(panel, cells) for panel, cells in panels.by_sessions.items()]
    return [table for table in tables if len(table.headings) > 1]


def figures(panels: Panels) -> list[Table]:
    """For each panel its latencies, its costs and its tasks."""
    tables = []
    for panel, cells in panels.by_rtt.items():
        ordered = [cell for policy in policies_of(cells) for cell in _of(cells, policy)]
        tables += [
            _by_cell(f"Speed and latency: {panel}", ordered, _HASTE),
            _by_cell(f"What it costs: {panel}", ordered, _COST),
            _tasks(f"Speed-up by task: {panel}", ordered),
        ]
    return [table for table in tables if len(table.headings) > 2]


def short(value: float | None) -> str:
    """Three digits that count, and never an exponent."""
    if value is None:
        return _NONE
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def spread(value: float | None, low: float | None, high: float | None) -> str:
    """A median with the smallest and the largest beside it."""
    if value is None or low is None or high is None:
        return short(value)
    return f"{short(value)} ({short(low)}-{short(high)})"


def quantiles(times: Quantiles | None, *names: str) -> str:
    """Some of them."""
    return _NONE if times is None else " / ".join(short(getattr(times, name)) for name in names)


def _break_even(cells: Sequence[Cell], policy: str) -> str:
    points = [
        (cell.rtt_ms, cell.speedup_vs_cloud)
        for cell in _of(cells, policy)
        if cell.speedup_vs_cloud is not None
    ]
    return str(break_even(points)) if points else _NONE


def _capacities(panel: Panel, cells: Sequence[Cell]) -> Table:
    policies = policies_of(cells)
    yardstick = _YARDSTICK if _YARDSTICK in policies else BASELINE
    limits = _tpot_by_sessions(cells, yardstick)
    rows = []
    for policy in policies:
        points = _tpot_by_sessions(cells, policy)
        found = (str(capacity(points, ms)) if points else _NONE for _, ms in limits)
        rows.append((policy, *found))
    headings = (f"{short(ms)} ms, as {yardstick} with {sessions}" for sessions, ms in limits)
    title = f"Sessions at the same time per token (median): {panel}"
    return Table(title, ("policy", *headings), tuple(rows))


def _tpot_by_sessions(cells: Sequence[Cell], policy: str) -> list[tuple[int, float]]:
    own = (cell for cell in cells if cell.policy == policy)
    return sorted((cell.sessions, cell.tpot_ms.p50) for cell in own if cell.tpot_ms is not None)


def _of(cells: Sequence[Cell], policy: str) -> list[Cell]:
    own = [cell for cell in cells if cell.policy == policy]
    return sorted(own, key=lambda cell: cell.rtt_ms)


def _by_cell(title: str, cells: Sequence[Cell], shown: dict[str, Callable[[Cell], str]]) -> Table:
    rows = [
        (cell.policy, f"{cell.rtt_ms:g}", *(show(cell) for show in shown.values()))
        for cell in cells
    ]
    return Table(title, ("policy", "round trip, ms", *shown), tuple(rows))


def _tasks(title: str, cells: Sequence[Cell]) -> Table:
    tasks = tuple(dict.fromkeys(task for cell in cells for task in cell.speedup_by_task))
    rows = [
        (cell.policy, f"{cell.rtt_ms:g}", *(short(cell.speedup_by_task.get(t)) for t in tasks))
        for cell in cells
        if cell.policy != BASELINE
    ]
    return Table(title, ("policy", "round trip, ms", *tasks), tuple(rows)) if tasks else _EMPTY


_EMPTY: Final = Table("", (), ())


def _pairs(named: object, before: str = "") -> str:
    assert isinstance(named, dict)
    return ", ".join(f"{name}: {before}{value}" for name, value in named.items())
