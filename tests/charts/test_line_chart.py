"""Line charts as SVG."""

from dataclasses import replace
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_charts.line_chart import LineChart, Point, Series
from outrider_charts.scale import Scale, round_ticks
from outrider_charts.style import Dress
from outrider_charts.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"


def a_chart(lines: dict[str, list[Point]], is_root: bool = False) -> LineChart:
    series = tuple(
        Series(name, tuple(points), look) for look, (name, points) in enumerate(lines.items())
    )
    ticks = tuple(sorted({point.x for points in lines.values() for point in points}))
    return LineChart("A & B", "x < y", "speed", ticks, series, reference=1.0, is_root=is_root)


def drawn(chart: LineChart, dress: Dress | None = Dress.BOTH) -> ElementTree.Element:
    return ElementTree.fromstring(chart.svg(dress))


def circles(root: ElementTree.Element) -> list[tuple[float, float]]:
    """Of the points; those of the legend have no title."""
    return [
        (float(node.attrib["cx"]), float(node.attrib["cy"]))
        for node in root.iter(f"{SVG}circle")
        if node.find(f"{SVG}title") is not None
    ]


def test_a_chart_is_well_formed_and_has_every_line_and_label() -> None:
    root = drawn(a_chart({"one": [Point(0, 1), Point(400, 2)], "two & more": [Point(0, 0.5)]}))
    texts = {node.text for node in root.iter(f"{SVG}text")}
    assert texts >= {"A & B", "x < y", "speed", "one", "two & more", "0", "400"}
    assert len(list(root.iter(f"{SVG}polyline"))) == 2
    assert len(circles(root)) == 3


@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=6),
    is_root=st.booleans(),
)
def test_points_stand_in_order_and_inside_the_frame(values: list[float], is_root: bool) -> None:
    points = [Point(10.0 * i, value, value, value) for i, value in enumerate(values)]
    places = circles(drawn(a_chart({"one": points}, is_root)))
    assert all(50 <= x <= 510 and 52 <= y <= 322.01 for x, y in places)
    assert all(before < after for (before, _), (after, _) in pairwise(places))
    heights = [-y for _, y in places]
    assert [sorted(heights).index(h) for h in heights] == pytest.approx(
        [sorted(heights).index(heights[i]) for i in range(len(values))]
    )
    highest = max(range(len(values)), key=values.__getitem__)
    assert heights[highest] == max(heights)


@given(highest=st.floats(1e-6, 1e9))
def test_ticks_reach_the_highest_value_in_four_to_ten_steps(highest: float) -> None:
    ticks = round_ticks(highest)
    assert ticks[0] == 0
    assert ticks[-1] >= highest * (1 - 1e-9)
    assert 4 <= len(ticks) <= 10


def test_a_band_shows_the_spread_and_a_thin_line_has_no_markers() -> None:
    spread = Series("one", (Point(0, 1, 0.9, 1.2), Point(1, 2, 1.5, 2.5)), 0)
    thin = Series("by formula", (Point(0, 1), Point(1, 2)), 1, is_thin=True)
    root = drawn(LineChart("t", "x", "y", (0, 1), (spread, thin)))
    assert len(list(root.iter(f"{SVG}polygon"))) == 1
    assert len(circles(root)) == 2


def test_a_root_scale_gives_small_values_more_room() -> None:
    scale = Scale(400, 0, 100, is_root=True)
    assert scale(0) == 0
    assert scale(100) == pytest.approx(50)
    assert scale(400) == 100


@pytest.mark.parametrize(
    ("dress", "words"), [(Dress.BOTH, "prefers-color-scheme"), (Dress.DARK, "#14181d")]
)
def test_a_chart_has_the_colours_of_its_page(dress: Dress, words: str) -> None:
    assert words in a_chart({"one": [Point(0, 1)]}).svg(dress)


def test_a_chart_on_a_page_brings_no_style_of_its_own() -> None:
    assert "<style>" not in a_chart({"one": [Point(0, 1)]}).svg(None)


@pytest.mark.parametrize("num_words", [1, 5, 40])
def test_a_title_that_is_too_long_for_a_line_goes_on_below_and_moves_the_rest(
    num_words: int,
) -> None:
    words = [f"word{i}" for i in range(num_words)]
    short = a_chart({"one": [Point(0, 1)]})
    root = drawn(replace(short, title=" ".join(words)))
    lines = [node.text for node in root.iter(f"{SVG}text") if "word" in str(node.text)]
    assert " ".join(map(str, lines)).split() == words
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    assert all(text_width(str(line), 14) < width for line in lines)
    (body,) = root.iter(f"{SVG}g")
    assert body.attrib["transform"] == f"translate(0 {18 * (len(lines) - 1)})"
    assert height - float(drawn(short).attrib["viewBox"].split()[3]) == 18 * (len(lines) - 1)
