"""What the classes of charts look like, on a light and on a dark page.

The colours are those of Okabe and Ito (Color Universal Design, 2008), which all eyes tell apart,
made lighter or darker where the page needs it. Knows nothing of what is drawn.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final

FONTS: Final = (
    'system-ui,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans","Liberation Sans","Noto Sans",'
    "Arial,sans-serif"
)
"""The first that is there: renderers of SVG know the generic names seldom."""

NUM_COLOURS: Final = 7
"""Classes `s0` to `s6`, for series."""


class Dress(Enum):
    """For what page a chart is drawn."""

    LIGHT = "light"
    DARK = "dark"
    BOTH = "both"
    """As the reader's system is set; for browsers."""


_LIGHT: Final = {
    "page": "#ffffff",
    "ink": "#1f2933",
    "faint": "#5c6873",
    "grid": "#dfe3e8",
    "lane": "#f4f6f8",
    "s0": "#0072b2",
    "s1": "#d55e00",
    "s2": "#009e73",
    "s3": "#b5508a",
    "s4": "#b87f00",
    "s5": "#3a9bd9",
    "s6": "#444c55",
    "committed": "#009e73",
    "rejected": "#d55e00",
    "late": "#e0a000",
    "unjudged": "#a7b0ba",
    "pass": "#0072b2",
    "guessed": "#b5508a",
    "on-colour": "#ffffff",
    "on-pale": "#1f2933",
    "on-bright": "#1f2933",
}
_DARK: Final = {
    "page": "#14181d",
    "ink": "#e6eaee",
    "faint": "#9aa6b2",
    "grid": "#333c46",
    "lane": "#1c222a",
    "s0": "#56b4e9",
    "s1": "#f08a3c",
    "s2": "#2cc295",
    "s3": "#e08fc0",
    "s4": "#e6b422",
    "s5": "#8fb8ff",
    "s6": "#c5ccd3",
    "committed": "#12a87f",
    "rejected": "#f0762b",
    "late": "#e6b422",
    "unjudged": "#5f6b78",
    "pass": "#3f8fd6",
    "guessed": "#e08fc0",
    "on-colour": "#0b0e11",
    "on-pale": "#e6eaee",
    "on-bright": "#0b0e11",
}


def style_sheet(dress: Dress) -> str:
    """The rules of a dress, as CSS."""
    letters = f".chart{{font-family:{FONTS}}}"
    if dress is Dress.BOTH:
        dark = "".join(_rules(_DARK))
        both = f"{''.join(_rules(_LIGHT))}@media (prefers-color-scheme:dark){{{dark}}}"
        return letters + both
    return letters + "".join(_rules(_LIGHT if dress is Dress.LIGHT else _DARK))


def page_colour(dress: Dress) -> str:
    """What is behind everything."""
    return (_DARK if dress is Dress.DARK else _LIGHT)["page"]


def _rules(colours: Mapping[str, str]) -> list[str]:
    """For each name a class that draws, `line-` before it, and one that fills; together, both."""
    lines = [f".line-{name}{{stroke:{colour};fill:none}}" for name, colour in colours.items()]
    fills = [f".{name}{{fill:{colour}}}" for name, colour in colours.items()]
    return lines + fills
