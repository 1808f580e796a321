"""Charts as PNG pictures, rendered by resvg, which the extra `report` brings.

Knows nothing of what is in a picture.
"""

from importlib.util import find_spec
from typing import Final

from outrider_charts.style import FONTS
from outrider_common.errors import MissingExtraError, OutriderError

ZOOM: Final = 2.0
"""Pixels for each unit of the chart: sharp on screens of today."""

_LETTERS: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9">'
    f"<text y='9' font-family='{FONTS}'>{{}}</text></svg>"
)


def can_render() -> bool:
    """Whether the renderer is installed."""
    return find_spec("resvg_py") is not None


def png_of(svg: str, zoom: float = ZOOM) -> bytes:
    """Render an SVG whose dress is light or dark: the renderer does not know readers' systems.

    Raises:
        MissingExtraError: the renderer is not installed.
        OutriderError: there is no font to write with.
    """
    if not can_render():
        raise MissingExtraError(
            "Pictures in PNG need the extra 'report'; install it with "
            "\"pip install 'outrider[report]'\"."
        )
    if _render(_LETTERS.format("M"), 1.0) == _render(_LETTERS.format(" "), 1.0):
        raise OutriderError(
            "Pictures in PNG need a font and none is found; install one, such as DejaVu Sans."
        )
    return _render(svg, zoom)


def _render(svg: str, zoom: float) -> bytes:
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=zoom))
