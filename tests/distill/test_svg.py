"""Line charts as SVG."""

from xml.etree import ElementTree

import pytest

from outrider_distill.svg import line_chart

SVG = "{http://www.w3.org/2000/svg}"


def drawn(series: dict[str, list[float]], categories: list[str]) -> ElementTree.Element:
    text = line_chart("A & B", categories, series, x_label="x < y", y_label="speed")
    return ElementTree.fromstring(text)


def test_a_chart_is_well_formed_and_has_every_line_and_label() -> None:
    root = drawn({"one": [1, 2, 3], "two & more": [0.5, 0.5, 0.5]}, ["0", "10", "20"])
    texts = {node.text for node in root.iter(f"{SVG}text")}
    assert texts >= {"A & B", "x < y", "speed", "one", "two & more", "0", "10", "20"}
    assert len(list(root.iter(f"{SVG}polyline"))) == 2
    assert len(list(root.iter(f"{SVG}circle"))) == 6


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-6, 3e-6], [0.9, 1.0], [97.0, 12345.0], [5.0]])
def test_greater_values_are_drawn_higher_and_all_inside_the_frame(values: list[float]) -> None:
    root = drawn({"one": values}, ["a", "b"][: len(values)])
    heights = [float(node.attrib["cy"]) for node in root.iter(f"{SVG}circle")]
    assert all(50 <= height <= 310 for height in heights)
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [heights[i] for i in order] == sorted(heights, reverse=True)


def test_ticks_reach_beyond_the_highest_value() -> None:
    root = drawn({"one": [0.0, 2.6]}, ["a", "b"])
    ticks = [
        float(node.text or "nan")
        for node in root.iter(f"{SVG}text")
        if node.attrib.get("text-anchor") == "end"
    ]
    assert ticks[0] == 0
    assert ticks[-1] >= 2.6
    assert 4 <= len(ticks) <= 10
