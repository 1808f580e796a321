"""A report as one HTML page that needs nothing else: charts inline, tables, light and dark.

Pure: results and traces in, text out. Knows nothing of files.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from outrider_bench import report_tables
from outrider_bench.formulas import Formulas, Pace, synthetic_pace, traced_pace
from outrider_bench.report_charts import (
    Panels,
    capacity_chart,
    formulas_of,
    latency_chart,
    speedup_chart,
)
from outrider_bench.report_tables import Table
from outrider_bench.results import BenchResults
from outrider_charts.line_chart import LineChart
from outrider_charts.style import Dress, style_sheet
from outrider_charts.timeline import telling_window, timeline
from outrider_common.generation_trace import GenerationTrace

WINDOW_S: Final = 0.4
"""So much of a generation is seen at once."""

_PAGE_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1f2933;--faint:#5c6873;--page:#fff;--line:#dfe3e8}
@media (prefers-color-scheme:dark){
:root{--ink:#e6eaee;--faint:#9aa6b2;--page:#14181d;--line:#333c46}}
body{margin:0 auto;max-width:1180px;padding:1rem;background:var(--page);color:var(--ink);
font:16px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}p{color:var(--faint);margin:.4rem 0}
.charts{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
.wide,.table{overflow-x:auto}.wide .chart{min-width:860px}.chart{width:100%;height:auto}
table{border-collapse:collapse;font-size:.86rem}
th,td{padding:.25rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}
.facts td{text-align:left;white-space:normal}.bad{color:#d55e00;font-weight:600}
summary{cursor:pointer;font-weight:600;padding:.4rem 0}
"""


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart under the name of its file."""

    name: str
    chart: LineChart | GenerationTrace

    def svg(self, dress: Dress | None) -> str:
        """In a dress; see `document`."""
        if isinstance(self.chart, LineChart):
            return self.chart.svg(dress)
        return timeline(self.chart, telling_window(self.chart, WINDOW_S), dress)


@dataclass(frozen=True, slots=True)
class Report:
    """All that is shown.

    Attributes:
        results: what was measured.
        panels: its cells, by chart.
        formulas: those that could be drawn, by panel.
        speedups: over the round trip.
        capacities: tokens a second over sessions.
        latencies: time per token over sessions.
        timelines: one for each trace.
    """

    results: BenchResults
    panels: Panels
    formulas: dict[str, Formulas]
    speedups: tuple[Picture, ...]
    capacities: tuple[Picture, ...]
    latencies: tuple[Picture, ...]
    timelines: tuple[Picture, ...]

    @classmethod
    def of(cls, results: BenchResults, traces: Sequence[GenerationTrace]) -> "Report":
        """A report of results, with timelines of these traces."""
        panels, paces = Panels.of(results), _paces(results, traces)
        over_rtt = panels.over_rtt
        known = {panel: formulas_of(cells, paces) for panel, cells in over_rtt.items()}
        speedups = [speedup_chart(p, cells, known[p]) for p, cells in over_rtt.items()]
        over_sessions = panels.by_sessions.items()
        capacities = [capacity_chart(p, cells) for p, cells in over_sessions]
        latencies = [latency_chart(p, cells) for p, cells in over_sessions]
        return cls(
            results=results,
            panels=panels,
            formulas={str(panel): found for panel, found in known.items() if found},
            speedups=_named("speed-up", [(chart.title, chart) for chart in speedups]),
            capacities=_named("capacity", [(chart.title, chart) for chart in capacities]),
            latencies=_named("latency", [(chart.title, chart) for chart in latencies]),
            timelines=_named("timeline", [(trace.drafter, trace) for trace in traces]),
        )

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All charts."""
        return (*self.speedups, *self.capacities, *self.latencies, *self.timelines)

    def html(self) -> str:
        """As a page."""
        style = style_sheet(Dress.BOTH) + _PAGE_STYLE
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
            f"<title>Outrider: what was measured</title>\n<style>{style}</style>\n</head>\n<body>\n"
            + "\n".join(_body(self))
            + "\n</body>\n</html>\n"
        )


def _paces(results: BenchResults, traces: Iterable[GenerationTrace]) -> dict[str, Pace]:
    """Of each pair, from a trace of the same drafter or from what a synthetic target was told."""
    request = results.request
    told = {pair: synthetic_pace(request.target, request.draft_ms) for pair in request.pairs}
    traced = {trace.drafter: traced_pace(trace) for trace in traces}
    return {pair: pace for pair, pace in (told | traced).items() if pace is not None}


def _named(
    kind: str, charts: Sequence[tuple[str, LineChart | GenerationTrace]]
) -> tuple[Picture, ...]:
    """Pictures under names that a file may have, each another one."""
    return tuple(
        Picture(f"{kind}-{i}-{re.sub('[^A-Za-z0-9.]+', '-', title).strip('-.')}", chart)
        for i, (title, chart) in enumerate(charts, start=1)
    )


def _body(report: Report) -> Iterator[str]:
    cells = report.results.cells
    yield "<h1>What drafting at the edge is worth</h1>"
    yield _exactness_sentence(report)
    yield "<h2>Speed-up over the round trip</h2>"
    if report.speedups:
        yield "<p>Thick: the default policy. Above the line at 1 drafting pays.</p>"
        yield _charts(report.speedups)
        yield from _formula_sentences(report)
        yield _table(report_tables.break_evens(report.panels))
    else:
        yield "<p>Only one round trip was measured.</p>"
    if report.timelines:
        yield "<h2>One generation</h2>"
        yield (
            "<p>The edge's times are measured. The verifier tells how long its passes took; when "
            "they happened is worked out with half of the round trip for either way.</p>"
        )
        yield from (f'<div class="wide">{picture.svg(None)}</div>' for picture in report.timelines)
    yield "<h2>Capacity</h2>"
    yield from _capacity(report)
    yield _table(report_tables.exactness(cells))
    yield _table(report_tables.facts(report.results), "facts")
    yield "<h2>All figures</h2>"
    for table in report_tables.figures(report.panels):
        yield f"<details><summary>{escape(table.title)}</summary>{_rows(table)}</details>"
    yield from _notes(report.results)


def _capacity(report: Report) -> Iterator[str]:
    if not report.capacities:
        yield "<p>Only one number of sessions was measured.</p>"
        return
    pairs = zip(report.capacities, report.latencies, strict=True)
    yield _charts(picture for pair in pairs for picture in pair)
    yield from map(_table, report_tables.capacities(report.panels))


def _exactness_sentence(report: Report) -> str:
    cells = report.results.cells
    tokens = sum(cell.tokens for cell in cells)
    if report_tables.is_exact(cells):
        return (
            f"<p>{tokens:,} tokens in {len(cells)} cells. Every policy that promises the text of "
            "the cloud alone wrote that text, token for token.</p>"
        )
    return (
        '<p class="bad">A policy that promises the text of the cloud alone wrote another one: '
        "see the table of exactness.</p>"
    )


def _formula_sentences(report: Report) -> Iterator[str]:
    if not report.formulas:
        yield (
            "<p>Formulas are drawn where the pace of drafter and verifier is known: give a trace "
            "of 'outrider edge run --trace' with the same drafter.</p>"
        )
    for name, formulas in report.formulas.items():
        pace = formulas.pace
        yield (
            f"<p>By formula, {escape(name)}: t<sub>d</sub> {pace.draft_s * 1e3:.1f} ms, "
            f"t<sub>v</sub> {pace.pass_s * 1e3:.1f} ms ({escape(pace.source)}), t<sub>ar</sub> "
            f"{formulas.plain_s * 1e3:.1f} ms, a {formulas.acceptance:.2f}.</p>"
        )


def _charts(pictures: Iterable[Picture]) -> str:
    return f'<div class="charts">{"".join(picture.svg(None) for picture in pictures)}</div>'


def _table(table: Table, kind: str = "table") -> str:
    return f"<h2>{escape(table.title)}</h2>{_rows(table, kind)}"


def _rows(table: Table, kind: str = "table") -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in table.rows
    )
    return f'<div class="table {kind}"><table><tr>{head}</tr>{body}</table></div>'


def _notes(results: BenchResults) -> Iterator[str]:
    notes = {cell.policy: cell.note for cell in results.cells if cell.note}
    yield from (f"<p>{escape(policy)}: {escape(note)}</p>" for policy, note in notes.items())
