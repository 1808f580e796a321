"""A line chart as SVG text, by hand: axes, lines with markers, a legend. Knows nothing of drafters.

The horizontal axis has a place for each category, at equal distances.
"""

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

_WIDTH: Final = 640
_HEIGHT: Final = 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 20, 50, 90
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Told apart by all eyes (Okabe and Ito 2008)."""


def line_chart(
    title: str,
    categories: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Draw lines over categories.

    Args:
        title: above all.
        categories: along the horizontal axis.
        series: the values of each line, one for each category, none negative.
        x_label: below the horizontal axis.
        y_label: beside the vertical axis, which begins at 0.

    Returns:
        A complete SVG document.
    """
    ticks = _ticks(max((value for values in series.values() for value in values), default=1.0))
    frame = _Frame(len(categories), ticks[-1])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_WIDTH / 2, 24, title, size=15),
        *_vertical_axis(frame, ticks),
        *(_text(frame.x(i), frame.bottom + 18, name) for i, name in enumerate(categories)),
        _text((_LEFT + _WIDTH - _RIGHT) / 2, frame.bottom + 38, x_label),
        f'<text transform="translate(16 {(_TOP + frame.bottom) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
        *(_line(frame, i, values) for i, values in enumerate(series.values())),
        *(_key(i, len(series), name) for i, name in enumerate(series)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


class _Frame:
    """Where values are on the page.

    Args:
        num_categories: along the horizontal axis.
        highest: the value at the upper end.
    """

    bottom: Final = _HEIGHT - _BOTTOM

    def __init__(self, num_categories: int, highest: float) -> None:
        self._num_gaps = max(num_categories - 1, 1)
        self._highest = highest

    def x(self, index: int) -> float:
        """Of a category."""
        return _LEFT + 20 + index * (_WIDTH - _LEFT - _RIGHT - 40) / self._num_gaps

    def y(self, value: float) -> float:
        """Of a value."""
        return self.bottom - value / self._highest * (self.bottom - _TOP)


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 to beyond the highest value, four to ten of them."""
    highest = max(highest, 1e-9)
    power = 10.0 ** floor(log10(highest))
    step = next(s * power for s in (0.2, 0.5, 1.0, 2.0) if highest / (s * power) <= 8)
    return [round(index * step, 10) for index in range(ceil(highest / step) + 1)]


def _vertical_axis(frame: _Frame, ticks: Sequence[float]) -> list[str]:
    lines = [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{frame.y(tick):.1f}" '
        f'y2="{frame.y(tick):.1f}" stroke="#ddd"/>'
        for tick in ticks
    ]
    return lines + [_text(_LEFT - 8, frame.y(t) + 4, f"{t:g}", anchor="end") for t in ticks]


def _line(frame: _Frame, number: int, values: Sequence[float]) -> str:
    places = [f"{frame.x(i):.1f},{frame.y(value):.1f}" for i, value in enumerate(values)]
    colour = _COLOURS[number % len(_COLOURS)]
    dots = "".join(
        f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="3" fill="{colour}"/>'
        for place in places
    )
    line = f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
    return line + dots


def _key(number: int, count: int, name: str) -> str:
    x = _LEFT + number * (_WIDTH - _LEFT - _RIGHT) / count
    y = _HEIGHT - 20
    colour = _COLOURS[number % len(_COLOURS)]
    sample = f'<rect x="{x:.1f}" y="{y - 9}" width="12" height="10" fill="{colour}"/>'
    return sample + _text(x + 17, y, name, anchor="start")


def _text(x: float, y: float, content: str, *, anchor: str = "middle", size: int = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"'
    return f"<text {place}>{escape(content)}</text>"
