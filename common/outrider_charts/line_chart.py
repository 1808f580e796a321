"""A line chart: lines with markers and bands of spread over a number, a legend.

Knows nothing of what the numbers are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from outrider_charts.scale import Scale, round_ticks, spaced
from outrider_charts.style import NUM_COLOURS, Dress
from outrider_charts.svg import document, tag, text, text_width, wrapped

_WIDTH: Final = 520
_PLOT_HEIGHT: Final = 270
_LEFT, _RIGHT, _TOP, _BELOW = 50, 16, 52, 46
_KEY_HEIGHT: Final = 20
_KEY_SAMPLE: Final = 30
_TITLE_SIZE: Final = 14
_TITLE_HEIGHT: Final = 18
_LEAST_TICK_GAP: Final = 24.0
_KEYS_Y: Final = _TOP + _PLOT_HEIGHT + _BELOW + 6
_DASHES: Final = ("none", "7 4", "2 3")


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a line, and between which it was seen to be."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One line.

    Attributes:
        name: in the legend.
        points: in the order of x.
        look: lines of one look have the same colour and dashes in every chart.
        is_thin: without markers, such as a formula.
        is_bold: the one to look at.
    """

    name: str
    points: tuple[Point, ...]
    look: int
    is_thin: bool = False
    is_bold: bool = False

    @property
    def colour(self) -> str:
        """Its class."""
        return f"s{self.look % NUM_COLOURS}"

    @property
    def dash(self) -> str:
        """Its pattern."""
        return "3 4" if self.is_thin else _DASHES[self.look // NUM_COLOURS % len(_DASHES)]

    @property
    def width(self) -> float:
        """Of the line."""
        return 1.3 if self.is_thin else 3.2 if self.is_bold else 2.0


@dataclass(frozen=True, slots=True)
class LineChart:
    """What is drawn; no value is negative.

    Attributes:
        title: above all.
        x_label: below the horizontal axis.
        y_label: above the vertical axis, which begins at 0.
        x_ticks: the values that are marked along the horizontal axis.
        series: the lines.
        reference: a value to compare with, drawn across; None: none.
        is_root: small values of x have more room.
    """

    title: str
    x_label: str
    y_label: str
    x_ticks: tuple[float, ...]
    series: tuple[Series, ...]
    reference: float | None = None
    is_root: bool = False

    def svg(self, dress: Dress | None = Dress.BOTH) -> str:
        """As a complete SVG; see `document`."""
        keys = _placed_keys(self.series)
        height = _TOP + _PLOT_HEIGHT + _BELOW + _KEY_HEIGHT * (1 + max(row for _, row, _ in keys))
        frame = _Frame.around(self)
        *above, last = wrapped(self.title, _TITLE_SIZE, _WIDTH - _LEFT + 34)
        titles = [
            text(_LEFT - 34, 18 + _TITLE_HEIGHT * i, line, anchor="start", size=_TITLE_SIZE)
            for i, line in enumerate(above)
        ]
        parts = [
            text(_LEFT - 34, 18, last, anchor="start", size=_TITLE_SIZE),
            text(_LEFT - 34, 35, self.y_label, anchor="start", size=11, kind="faint"),
            *_grid(self, frame),
            *(part for series in self.series for part in _band(frame, series)),
            *(part for series in self.series for part in _line(frame, series)),
            *(_key(series, x, _KEYS_Y + row * _KEY_HEIGHT) for series, row, x in keys),
        ]
        more = _TITLE_HEIGHT * len(above)
        body = tag("g", "".join(parts), transform=f"translate(0 {more})")
        whole = [*titles, body]
        return document(self.title, whole, width=_WIDTH, height=height + more, dress=dress)


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where values stand on the page."""

    x: Scale
    y: Scale
    y_ticks: tuple[float, ...]

    @classmethod
    def around(cls, chart: LineChart) -> "_Frame":
        points = [point for series in chart.series for point in series.points]
        tops = [point.y if point.high is None else point.high for point in points]
        ticks = round_ticks(max([*tops, chart.reference or 0.0], default=1.0))
        right = max([*chart.x_ticks, *(point.x for point in points)], default=1.0)
        return cls(
            Scale(right, _LEFT + 6, _WIDTH - _RIGHT - 6, chart.is_root),
            Scale(ticks[-1], _TOP + _PLOT_HEIGHT, _TOP),
            tuple(ticks),
        )


def _grid(chart: LineChart, frame: _Frame) -> Iterator[str]:
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT
    for tick in frame.y_ticks:
        y = frame.y(tick)
        yield tag("line", x1=left, x2=right, y1=y, y2=y, class_="line-grid")
        yield text(left - 7, y + 4, f"{tick:g}", anchor="end", kind="faint")
    for tick in spaced(chart.x_ticks, frame.x, _LEAST_TICK_GAP):
        x = frame.x(tick)
        yield tag("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="line-faint")
        yield text(x, bottom + 18, f"{tick:g}", kind="faint")
    yield text((left + right) / 2, bottom + 37, chart.x_label, kind="faint")
    if chart.reference is not None:
        y = frame.y(chart.reference)
        yield tag("line", x1=left, x2=right, y1=y, y2=y, class_="line-ink", stroke_width=1.2)


def _band(frame: _Frame, series: Series) -> Iterator[str]:
    """Between the smallest and the largest, where they are known."""
    known = [p for p in series.points if p.low is not None and p.high is not None]
    if len(known) > 1:
        there = [(p.x, p.high or 0.0) for p in known]
        back = [(p.x, p.low or 0.0) for p in reversed(known)]
        places = _places(frame, [*there, *back])
        yield tag("polygon", points=places, class_=series.colour, fill_opacity=0.14)


def _line(frame: _Frame, series: Series) -> Iterator[str]:
    yield tag(
        "polyline",
        points=_places(frame, [(point.x, point.y) for point in series.points]),
        stroke_width=series.width,
        stroke_linejoin="round",
        class_=f"line-{series.colour}",
        stroke_dasharray=series.dash,
    )
    for point in () if series.is_thin else series.points:
        yield tag(
            "circle",
            tag("title", escape(_in_words(series, point))),
            cx=frame.x(point.x),
            cy=frame.y(point.y),
            r=4.0 if series.is_bold else 3.0,
            class_=series.colour,
        )


def _in_words(series: Series, point: Point) -> str:
    spread = "" if point.low is None else f" ({point.low:.3g} to {point.high:.3g})"
    return f"{series.name} at {point.x:g}: {point.y:.3g}{spread}"


def _places(frame: _Frame, points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)


def _placed_keys(series: Sequence[Series]) -> list[tuple[Series, int, float]]:
    """Each line with the row of its key and where it begins there."""
    placed: list[tuple[Series, int, float]] = []
    row, x = 0, float(_LEFT - 34)
    for each in series:
        width = _KEY_SAMPLE + text_width(each.name, 12) + 16
        if placed and x + width > _WIDTH:
            row, x = row + 1, float(_LEFT - 34)
        placed.append((each, row, x))
        x += width
    return placed


def _key(series: Series, x: float, y: float) -> str:
    sample = tag(
        "line",
        x1=x,
        x2=x + _KEY_SAMPLE - 6,
        y1=y,
        y2=y,
        class_=f"line-{series.colour}",
        stroke_width=series.width,
        stroke_dasharray=series.dash,
    )
    dot = "" if series.is_thin else tag("circle", cx=x + 12, cy=y, r=3, class_=series.colour)
    name = text(x + _KEY_SAMPLE, y + 4, series.name, anchor="start")
    return sample + dot + name
