"""The timeline of one generation."""

from xml.etree import ElementTree

import pytest

from outrider_charts.png import png_of
from outrider_charts.style import Dress
from outrider_charts.timeline import Window, telling_window, timeline
from outrider_common.generation_trace import (
    DraftSpan,
    GenerationTrace,
    NodeFate,
    NodeTrace,
    PassTrace,
    SentMessage,
)

SVG = "{http://www.w3.org/2000/svg}"


def a_node(node_id: int, at_s: float, fate: NodeFate, text: str = "ship") -> NodeTrace:
    return NodeTrace(node_id, 7, text, node_id, None, "lm", 0.9, at_s, at_s, fate, at_s + 0.2)


def a_trace(num_nodes: int = 40) -> GenerationTrace:
    """A node every 20 ms, a pass every 40 ms; the fates take turns in the second half."""
    fates = [
        list(NodeFate)[i % 4] if i > num_nodes / 2 else NodeFate.COMMITTED for i in range(num_nodes)
    ]
    times = [0.1 + 0.02 * i for i in range(num_nodes)]
    return GenerationTrace(
        target="big & strong",
        drafter="<small>",
        opened_at_s=0.05,
        round_trip_s=0.05,
        drafts=tuple(DraftSpan(t - 0.018, t, 1, 1) for t in times),
        messages=tuple(SentMessage(t, (i,)) for i, t in enumerate(times, start=1)),
        nodes=tuple(
            a_node(i, t, fate)
            for i, (t, fate) in enumerate(zip(times, fates, strict=True), start=1)
        ),
        passes=tuple(
            PassTrace(t + 0.1, 2 * i, (7, 8), ("ship", "\n"), 1, False, 0.038, 0.004, 3)
            for i, t in enumerate(times[::2])
        ),
    )


def bars(root: ElementTree.Element, kind: str) -> list[ElementTree.Element]:
    return [
        node
        for node in root.iter(f"{SVG}rect")
        if kind in node.attrib.get("class", "").split() and node.find(f"{SVG}title") is not None
    ]


def test_all_fates_of_the_window_are_drawn_and_named() -> None:
    trace = a_trace()
    root = ElementTree.fromstring(timeline(trace, Window(0.0, trace.ended_at_s)))
    drawn = [node for node in root.iter(f"{SVG}rect") if node.find(f"{SVG}title") is not None]
    told = "".join(str(node.findtext(f"{SVG}title")) for node in drawn)
    for fate in NodeFate:
        of_nodes = [n for n in trace.nodes if n.fate is fate]
        assert told.count(f"by lm: {fate.value}") == len(of_nodes) > 0
    texts = {node.text for node in root.iter(f"{SVG}text")}
    assert {"ship", "drafting", "passes", "text", "uplink", "downlink"} <= texts
    assert any("drafted by <small>" in str(text) for text in texts)


def test_what_happens_outside_the_window_is_not_drawn() -> None:
    trace = a_trace()
    whole = ElementTree.fromstring(timeline(trace, Window(0.0, trace.ended_at_s)))
    part = ElementTree.fromstring(timeline(trace, Window(0.3, 0.5)))
    assert 0 < len(bars(part, "committed")) < len(bars(whole, "committed"))


def test_the_telling_window_has_all_kinds_of_fates() -> None:
    trace = a_trace()
    window = telling_window(trace, 0.4)
    assert window.end_s - window.begin_s == pytest.approx(0.4)
    seen = {n.fate for n in trace.nodes if window.begin_s <= n.drafted_at_s < window.end_s}
    assert seen == set(NodeFate)


def test_guesses_of_the_verifiers_own_are_counted_on_their_pass_and_coloured_in_the_text() -> None:
    texts = ("ship", " sails", " far", "!")
    commit = PassTrace(0.2, 5, (7, 8, 9, 2), texts, 1, False, 0.1, 0.0, 5, num_guessed=2)
    trace = GenerationTrace("t", "d", 0.0, 0.02, passes=(commit,))
    root = ElementTree.fromstring(timeline(trace, Window(0.0, 0.5)))
    assert [bar.findtext(f"{SVG}title") for bar in bars(root, "committed")] == ["'ship'"]
    guessed = [bar.findtext(f"{SVG}title") for bar in bars(root, "guessed")]
    assert guessed == ["' sails'", "' far'"]
    (verified, own) = [bar.findtext(f"{SVG}title") for bar in bars(root, "pass")]
    assert str(verified).startswith("5 rows, 1 accepted, 2 guessed, 4 tokens;")
    assert own == "'!'"
    assert {"5 rows", "1 accepted", "2 guessed"} <= {t.text for t in root.iter(f"{SVG}text")}


@pytest.mark.parametrize("trace", [GenerationTrace("t", "d", 0.1, 0.05), a_trace(1), a_trace(2)])
def test_a_short_or_empty_generation_is_drawn_whole(trace: GenerationTrace) -> None:
    window = telling_window(trace, 5.0)
    assert (window.begin_s, window.end_s) == (0.0, trace.ended_at_s)
    ElementTree.fromstring(timeline(trace, window))


@pytest.mark.parametrize("dress", [Dress.LIGHT, Dress.DARK])
def test_a_timeline_becomes_a_png_with_its_letters(dress: Dress) -> None:
    trace = a_trace()
    svg = timeline(trace, telling_window(trace, 0.4), dress)
    picture = png_of(svg, zoom=1.0)
    assert picture.startswith(b"\x89PNG\r\n")
    assert int.from_bytes(picture[16:20]) == 1000  # the width of the page
    assert png_of(svg.replace(">ship<", "><"), zoom=1.0) != picture
