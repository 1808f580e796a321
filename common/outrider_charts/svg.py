"""SVG as text: elements, and whole documents in a light and a dark dress.

Elements carry classes, never colours: `style` says what those look like. Knows nothing of charts.
"""

from collections.abc import Iterable
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from outrider_charts.style import Dress, style_sheet

CHARACTER_WIDTH: Final = 0.58
"""Of an average character, over the size of the letters."""


def tag(name: str, content: str | None = None, **attributes: str | float) -> str:
    """One element. `class_` stands for `class`, other underscores for hyphens.

    Args:
        name: of the element.
        content: what it holds, as SVG; None: nothing.
        attributes: of the element; numbers are rounded to what can be seen.
    """
    head = " ".join([name, *(_attribute(key, value) for key, value in attributes.items())])
    return f"<{head}/>" if content is None else f"<{head}>{content}</{name}>"


def text(
    x: float, y: float, content: str, *, anchor: str = "middle", size: float = 12, kind: str = "ink"
) -> str:
    """A line of text; its baseline is at `y`."""
    return tag("text", escape(content), x=x, y=y, text_anchor=anchor, font_size=size, class_=kind)


def text_width(content: str, size: float) -> float:
    """About how wide a line of text is."""
    return len(content) * size * CHARACTER_WIDTH


def document(
    title: str,
    parts: Iterable[str],
    *,
    width: float,
    height: float,
    dress: Dress | None = Dress.BOTH,
) -> str:
    """A complete SVG.

    Args:
        title: for those who cannot see it.
        parts: what is drawn, in this order.
        width: of the page.
        height: of the page.
        dress: its colours; None where the page around it has the style sheet.
    """
    sheet = [] if dress is None else [tag("style", style_sheet(dress))]
    body = [
        tag("title", escape(title)),
        *sheet,
        tag("rect", width=width, height=height, class_="page"),
        *parts,
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'class="chart">' + "\n".join(body) + "\n</svg>\n"
    )


def _attribute(key: str, value: str | float) -> str:
    name = key.rstrip("_").replace("_", "-")
    shown = value if isinstance(value, str) else f"{round(value, 2):g}"
    return f"{name}={quoteattr(shown)}"


def wrapped(content: str, size: float, width: float) -> list[str]:
    """A text in lines that are no wider than that, as far as its words allow; at least one line."""
    lines = [""]
    for word in content.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
