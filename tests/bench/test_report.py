"""`outrider bench report`: one page from results, with all of them, and nothing from elsewhere."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from bench_results import PAIRS, POLICIES, RTTS, a_cell, some_results
from click.testing import CliRunner

from outrider_bench import report_tables
from outrider_bench.cli import bench
from outrider_bench.formulas import Formulas
from outrider_bench.report_charts import Panel, Panels, speedup_chart
from outrider_bench.report_page import Report
from outrider_bench.results import BenchResults, Cell, Quantiles
from outrider_charts.line_chart import LineChart
from outrider_common.errors import OutriderError
from outrider_common.generation_trace import (
    TRACE_KEY,
    DraftSpan,
    GenerationTrace,
    NodeFate,
    NodeTrace,
    PassTrace,
    SentMessage,
)
from outrider_common.synthetic import SyntheticSpec

TRACE = GenerationTrace(
    target="smollm2-135m",
    drafter=PAIRS[0],
    opened_at_s=0.05,
    round_trip_s=0.05,
    drafts=(DraftSpan(0.05, 0.063, 1, 1),),
    messages=(SentMessage(0.063, (1,)),),
    nodes=(NodeTrace(1, 7, "ship", 5, None, "lm", 0.9, 0.063, 0.063, NodeFate.COMMITTED, 0.2),),
    passes=(PassTrace(0.2, 5, (7, 8), ("ship", " sails"), 1, False, 0.039, 0.0, 2),),
)


class Page(HTMLParser):
    """What a browser would see: elements, their attributes, and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def a_report(results: BenchResults | None = None) -> Report:
    return Report.of(results or some_results(), [TRACE])


def invoked(*arguments: str | Path) -> tuple[int, str]:
    """The command's status, and what it printed or was refused with."""
    result = CliRunner().invoke(bench, ["report", *map(str, arguments)])
    if isinstance(result.exception, OutriderError):
        return 2, str(result.exception)
    return result.exit_code, result.output


@pytest.fixture
def results_file(tmp_path: Path) -> Path:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(some_results().as_json()))
    return path


@pytest.fixture
def trace_file(tmp_path: Path) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"traceEvents": [], TRACE_KEY: TRACE.as_json()}))
    return path


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = a_report().html()
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "image", "use")
        assert not {"src", "href", "xlink:href", "srcset", "data"} & set(attributes)
    assert "@import" not in html
    assert "@font-face" not in html
    assert set(re.findall(r"url\(([^)]*)\)", html)) == set()
    assert set(re.findall(r"https?://[^\s\"'<>]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_fits_phones_and_dark_rooms() -> None:
    html = a_report().html()
    assert 'content="width=device-width,initial-scale=1"' in html
    assert "prefers-color-scheme:dark" in html


def test_every_policy_is_in_every_chart_with_all_its_points() -> None:
    report = a_report()
    assert len(report.speedups) == len(PAIRS) * 2
    assert len(report.capacities) == len(PAIRS) * 2
    for picture, count in [(p, len(RTTS)) for p in report.speedups] + [
        (p, 3) for p in report.capacities + report.latencies
    ]:
        measured = {s.name: s for s in picture.chart.series if not s.is_thin}
        assert set(measured) == set(POLICIES)
        assert all(len(series.points) == count for series in measured.values())


def test_the_page_says_how_many_sessions_fit_into_the_same_time_per_token() -> None:
    def loaded(policy: str, sessions: int, tpot_ms: float) -> Cell:
        times = Quantiles(p50=tpot_ms, p95=2 * tpot_ms, p99=3 * tpot_ms)
        return a_cell(PAIRS[0], policy, 20.0, sessions, tpot_ms=times)

    points = {"cloud": (30, 70), "colocated": (20, 60), "auto": (10, 40)}
    cells = [
        loaded(policy, sessions, tpot_ms)
        for policy, both in points.items()
        for sessions, tpot_ms in zip((4, 64), both, strict=True)
    ]
    (table,) = report_tables.capacities(Panels.of(some_results(cells)))
    assert table.headings == (
        "policy",
        "20.0 ms, as colocated with 4",
        "60.0 ms, as colocated with 64",
    )
    assert table.rows == (
        ("cloud", "fewer than 4", "49"),
        ("auto", "24", "64 or more"),
        ("colocated", "4", "64 or more"),
    )
    page = Page(a_report(some_results(cells)).html()).text
    assert table.title in page
    assert "as colocated with 64" in page
    plain = [cell for cell in cells if cell.policy != "colocated"]
    (table,) = report_tables.capacities(Panels.of(some_results(plain)))
    assert table.headings[1] == "30.0 ms, as cloud with 4"


def test_the_time_per_token_is_drawn_up_to_its_95th_percentile() -> None:
    (picture, *_) = a_report().latencies
    assert isinstance(picture.chart, LineChart)
    (auto,) = (series for series in picture.chart.series if series.name == "auto")
    for point in auto.points:
        assert (point.low, point.high) == (point.y, pytest.approx(1.2 * point.y))


def test_a_policy_keeps_its_look_in_a_chart_without_the_others() -> None:
    def looks(policies: tuple[str, ...]) -> dict[str, int]:
        cells = [a_cell(PAIRS[0], policy, rtt) for policy in policies for rtt in RTTS]
        (panel,) = Panels.of(some_results(cells)).by_rtt
        return {series.name: series.look for series in speedup_chart(panel, cells, None).series}

    everywhere = looks(POLICIES)
    assert len(set(everywhere.values())) == len(POLICIES)
    assert looks(("cloud", "auto")) == {name: everywhere[name] for name in ("cloud", "auto")}


def test_formulas_are_drawn_with_what_was_measured_and_only_where_a_trace_tells_the_pace() -> None:
    report = a_report()
    assert {title.split(",")[0] for title in report.formulas} == {PAIRS[0]}
    formulas: Formulas = next(iter(report.formulas.values()))
    assert formulas.pace.draft_s == pytest.approx(0.013)
    assert formulas.pace.pass_s == pytest.approx(0.039)
    assert formulas.plain_s == pytest.approx(1 / 30)
    assert formulas.acceptance == 0.97
    thin = [s.name for s in report.speedups[0].chart.series if s.is_thin]
    assert thin == ["stop-and-wait by formula", "chain by formula"]


def test_the_page_says_where_each_policy_stops_paying() -> None:
    page = Page(a_report().html())
    assert "break-even round trip" in page.text
    assert "pays up to 400 ms and beyond the grid" in page.text
    assert re.search(r"\d+ ms", page.text)


def test_the_page_says_whether_texts_were_exact() -> None:
    assert "token for token" in Page(a_report().html()).text
    wrong = [
        replace(cell, exact=cell.policy != "auto", mismatches=3 * (cell.policy == "auto"))
        for cell in some_results().cells
    ]
    page = Page(a_report(some_results(wrong)).html())
    assert "token for token" not in page.text
    assert "wrote another one" in page.text


def test_names_and_notes_from_a_file_are_text_and_nothing_else() -> None:
    evil = "<script>alert(1)</script>"
    cells = [
        replace(a_cell(PAIRS[0], policy, rtt), note=evil, pair=evil, speedup_by_task={evil: 1.0})
        for policy in ("cloud", evil)
        for rtt in (0.0, 50.0)
    ]
    html = a_report(some_results(cells)).html()
    assert "<script" not in html
    assert evil in Page(html).text


def test_one_round_trip_and_one_number_of_sessions_need_no_charts() -> None:
    cells = [a_cell(PAIRS[0], policy, 50.0) for policy in POLICIES]
    report = a_report(some_results(cells))
    assert report.speedups == report.capacities == report.latencies == ()
    assert "Only one round trip was measured" in Page(report.html()).text


def test_figures_that_were_not_measured_are_left_open() -> None:
    cells = [
        a_cell(PAIRS[0], policy, rtt, speedup_vs_cloud=None, tokens_per_s=None, tpot_ms=None)
        for policy in POLICIES
        for rtt in RTTS
    ]
    assert "–" in Page(a_report(some_results(cells)).html()).text


def test_the_command_writes_the_page_and_each_chart_in_light_and_dark(
    tmp_path: Path, results_file: Path, trace_file: Path
) -> None:
    out = tmp_path / "new" / "report"
    status, said = invoked(results_file, "--out", out, "--trace", trace_file)
    assert status == 0, said
    names = {path.name for path in out.iterdir()}
    charts = {name.removesuffix(".svg") for name in names if name.endswith(".svg")}
    assert len(charts) == 4 + 4 + 4 + 1
    pngs = {f"{chart}-{dress}.png" for chart in charts for dress in ("light", "dark")}
    assert names == {"report.html", *(f"{chart}.svg" for chart in charts), *pngs}
    for name in pngs:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert f"{out / 'report.html'} and {len(names) - 1} pictures" in said


def test_without_the_renderer_the_page_is_there_and_a_sentence_says_what_is_missing(
    tmp_path: Path, results_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("outrider_bench.cli", "outrider_bench.report_files"):
        monkeypatch.setattr(f"{module}.can_render", lambda: False)
    status, said = invoked(results_file, "--out", tmp_path / "out")
    assert status == 0
    assert "pip install 'outrider[report]'" in said
    assert (tmp_path / "out" / "report.html").is_file()
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no file"),
        ("not JSON", "cannot be read as JSON"),
        ("[]", "does not hold results"),
        ('{"version": 99}', "has version 99"),
        (json.dumps(some_results([]).as_json()), "holds no cells"),
    ],
)
def test_what_holds_no_results_is_refused_in_a_sentence(
    tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    status, said = invoked(path, "--out", tmp_path / "out")
    assert status == 2
    assert words in said
    assert str(path) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read as JSON"),
        ("not JSON", "cannot be read as JSON"),
        ('{"traceEvents": []}', "holds no trace of a generation"),
        ("[]", "holds no trace of a generation"),
        (json.dumps({TRACE_KEY: {"version": 7}}), "has version 7"),
    ],
)
def test_what_holds_no_trace_is_refused_in_a_sentence(
    tmp_path: Path, results_file: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "bad.json"
    if content is not None:
        path.write_text(content)
    status, said = invoked(results_file, "--out", tmp_path / "out", "--trace", path)
    assert status == 2
    assert words in said
    assert str(path) in said


def test_a_directory_that_cannot_be_made_is_refused_in_a_sentence(
    tmp_path: Path, results_file: Path
) -> None:
    status, said = invoked(results_file, "--out", results_file)
    assert status == 2
    assert "The report cannot be written to" in said
    assert "--out" in said


def test_a_heading_names_a_synthetic_target_by_what_matters() -> None:
    spec = SyntheticSpec(acceptance=0.7, c0_s=0.055, c1_s=0.0003, seed=5)
    panel = Panel(str(spec), 0.0, None, 1, None)
    assert str(panel) == "synthetic (acceptance 0.7, 55ms + 0.3ms a row), greedy"
