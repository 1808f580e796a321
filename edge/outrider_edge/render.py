"""Shows a generation in a terminal, every token marked by its origin, and tables of results.

With colours where the terminal has them, with brackets where it has not. What a model says is
made harmless first. Knows nothing of sessions or tokenizers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from outrider_common.records import TokenOrigin

_STYLES: Final = {
    TokenOrigin.DRAFTED: Style(color="green"),
    TokenOrigin.GUESSED: Style(color="cyan"),
    TokenOrigin.CORRECTED: Style(color="red", bold=True),
    TokenOrigin.HEDGED: Style(color="yellow"),
}

# Control characters (C0, delete, C1) can drive a terminal; line and paragraph separators and
# directional formatting can make it show something else than the text.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True, slots=True)
class Marks:
    """How origins and white space look where colours cannot show them.

    Attributes:
        guessed: what stands before and after a token that the verifier had guessed.
        corrected: what stands before and after a corrected token.
        hedged: what stands before and after a hedged token.
        newline: stands for a line break in a token that is not drafted; the break follows.
        space: stands for a space in such a token if it has nothing else to see.
    """

    guessed: tuple[str, str]
    corrected: tuple[str, str]
    hedged: tuple[str, str]
    newline: str
    space: str

    def around(self, origin: TokenOrigin) -> tuple[str, str]:
        """What stands before and after a token of this origin."""
        match origin:
            case TokenOrigin.DRAFTED:
                return "", ""
            case TokenOrigin.GUESSED:
                return self.guessed
            case TokenOrigin.CORRECTED:
                return self.corrected
            case TokenOrigin.HEDGED:
                return self.hedged


UNICODE_MARKS: Final = Marks(("⟪", "⟫"), ("⟦", "⟧"), ("⟨", "⟩"), "⏎", "␣")
ASCII_MARKS: Final = Marks(("{{", "}}"), ("[[", "]]"), ("<<", ">>"), "\\n", "_")


class TokenRenderer:
    """Prints the pieces of a text as they come, each marked by its origin.

    Args:
        console: where to print. Its colours, its encoding and `NO_COLOR` decide how.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._has_colour = console.color_system is not None and not console.no_color
        self._marks = UNICODE_MARKS if _can_show(console, UNICODE_MARKS) else ASCII_MARKS
        self._is_mid_line = False

    def legend(self) -> None:
        """Print what the marks mean, on a line of its own."""
        for origin in TokenOrigin:
            if self._is_mid_line:
                self._print(" ")
            self._print_marked(origin.value, origin)
        self._print("\n")

    def piece(self, text: str, origin: TokenOrigin) -> None:
        """Print the text of one token; nothing where it has none yet."""
        first, *rest = safe_text(text, self._console.encoding).split("\n")
        for line in rest:
            self._print_line_end(first, origin)
            first = line
        if first:
            self._print_marked(first, origin)

    def finish(self) -> None:
        """End the last line."""
        if self._is_mid_line:
            self._print("\n")

    def _print_line_end(self, text: str, origin: TokenOrigin) -> None:
        if origin is not TokenOrigin.DRAFTED:
            text += self._marks.newline
        if text:
            self._print_marked(text, origin)
        self._print("\n")

    def _print_marked(self, text: str, origin: TokenOrigin) -> None:
        if origin is not TokenOrigin.DRAFTED and text.isspace():
            text = text.replace(" ", self._marks.space)
        if self._has_colour:
            self._print(text, _STYLES[origin])
        else:
            before, after = self._marks.around(origin)
            self._print(f"{before}{text}{after}")

    def _print(self, text: str, style: Style | None = None) -> None:
        # `out` neither wraps nor reads markup: a piece is the middle of a line.
        self._console.out(text, style=style, highlight=False, end="")
        self._is_mid_line = not text.endswith("\n")


def safe_text(text: str, encoding: str = "utf-8") -> str:
    """`text` for a terminal: what could control it becomes visible, as `\\x1b` does.

    Line breaks and tabs stay. Characters that `encoding` does not have are escaped, too.
    """
    visible = _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def print_table(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """Print a table of results: the first column to the left, the others to the right.

    Floats have three significant digits; None is an empty cell.
    """
    table = Table(title=safe_text(title, console.encoding))
    for i, column in enumerate(columns):
        table.add_column(_cell(console, column), justify="right" if i else "left")
    for row in rows:
        table.add_row(*(_cell(console, value) for value in row))
    console.print(table)


def _cell(console: Console, value: object) -> Text:
    if value is None:
        return Text("")
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return Text(safe_text(text, console.encoding))


def _can_show(console: Console, marks: Marks) -> bool:
    characters = "".join(
        (*marks.guessed, *marks.corrected, *marks.hedged, marks.newline, marks.space)
    )
    try:
        characters.encode(console.encoding)
    except UnicodeEncodeError:
        return False
    return True
