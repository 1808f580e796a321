"""What a person sees of a generation: with colours, without, and on the poorest terminal."""

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from outrider_common.records import TokenOrigin
from outrider_edge.render import TokenRenderer, print_table, safe_text

DRAFTED, GUESSED, CORRECTED, HEDGED = TokenOrigin
PIECES = st.lists(
    st.tuples(
        st.text(max_size=6) | st.sampled_from(["\n", " ", "\x1b[2J"]), st.sampled_from(TokenOrigin)
    ),
    max_size=8,
)


class Screen:
    """A console that remembers what was written to it."""

    def __init__(
        self, encoding: str = "utf-8", *, colour: bool = False, no_colour: bool = False
    ) -> None:
        self._bytes = io.BytesIO()
        self._file = io.TextIOWrapper(self._bytes, encoding=encoding, newline="")
        self._encoding = encoding
        self.console = Console(
            file=self._file,
            force_terminal=colour,
            color_system="truecolor" if colour else None,
            width=40,
            _environ={},
            no_color=no_colour,
        )

    def show(self, *pieces: tuple[str, TokenOrigin]) -> str:
        renderer = TokenRenderer(self.console)
        for text, origin in pieces:
            renderer.piece(text, origin)
        renderer.finish()
        return self.text()

    def text(self) -> str:
        self._file.flush()
        return self._bytes.getvalue().decode(self._encoding)


def test_without_colours_brackets_tell_the_origins_apart() -> None:
    shown = Screen().show(("The", HEDGED), (" cat", DRAFTED), (" sat", CORRECTED), ("!", GUESSED))
    assert shown == "⟨The⟩ cat⟦ sat⟧⟪!⟫\n"


def test_a_terminal_that_knows_ascii_only_gets_ascii_brackets() -> None:
    shown = Screen("ascii").show(("The", HEDGED), (" café", CORRECTED), ("\n", CORRECTED))
    assert shown == "<<The>>[[ caf\\xe9]][[\\n]]\n"
    assert Screen("ascii").show((" cat", GUESSED)) == "{{ cat}}\n"


def test_with_colours_each_origin_has_its_own() -> None:
    shown = Screen(colour=True).show(
        ("a", DRAFTED), ("b", CORRECTED), ("c", HEDGED), ("d", GUESSED)
    )
    assert shown == "\x1b[32ma\x1b[0m\x1b[1;31mb\x1b[0m\x1b[33mc\x1b[0m\x1b[36md\x1b[0m\n"


def test_a_terminal_that_wants_no_colour_gets_brackets() -> None:
    shown = Screen(colour=True, no_colour=True).show(("a", DRAFTED), ("b", CORRECTED))
    assert shown == "a⟦b⟧\n"


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("utf-8", "drafted ⟪guessed⟫ ⟦corrected⟧ ⟨hedged⟩\n"),
        ("ascii", "drafted {{guessed}} [[corrected]] <<hedged>>\n"),
    ],
)
def test_the_legend_shows_the_marks_on_a_line_of_its_own(encoding: str, line: str) -> None:
    screen = Screen(encoding)
    TokenRenderer(screen.console).legend()
    assert screen.text() == line


def test_a_corrected_line_break_is_seen_and_still_breaks_the_line() -> None:
    shown = Screen().show((".\n\n", CORRECTED), ("next", DRAFTED))
    assert shown == "⟦.⏎⟧\n⟦⏎⟧\nnext\n"


def test_a_drafted_line_break_is_only_a_line_break() -> None:
    assert Screen().show(("one\n", DRAFTED), ("two", DRAFTED)) == "one\ntwo\n"


def test_spaces_of_a_token_with_nothing_else_to_see_are_seen_unless_drafted() -> None:
    assert Screen().show(("  ", CORRECTED), (" ", HEDGED), (" ", DRAFTED)) == "⟦␣␣⟧⟨␣⟩ \n"


def test_a_token_without_text_leaves_no_mark() -> None:
    assert Screen().show(("a", DRAFTED), ("", CORRECTED), ("b", DRAFTED)) == "ab\n"


def test_a_text_that_ended_its_last_line_gets_no_empty_one() -> None:
    assert Screen().show(("done\n", DRAFTED)) == "done\n"
    assert Screen().show() == ""


def test_a_line_longer_than_the_terminal_is_not_broken_between_tokens() -> None:
    assert Screen().show(*[("x" * 30, DRAFTED)] * 3) == "x" * 90 + "\n"


def test_markup_of_the_terminal_library_in_a_text_is_only_text() -> None:
    assert Screen().show(("[bold]:smile:[/]", DRAFTED)) == "[bold]:smile:[/]\n"


def test_escape_sequences_become_visible() -> None:
    assert Screen().show(("\x1b]0;owned\x07\r", DRAFTED)) == "\\x1b]0;owned\\x07\\r\n"
    assert safe_text("\u202egnp\u2069") == "\\u202egnp\\u2069"


@given(
    text=st.text(st.characters(codec=None)), encoding=st.sampled_from(["utf-8", "ascii", "cp1252"])
)
def test_safe_text_holds_nothing_that_moves_a_cursor_and_can_be_written(
    text: str, encoding: str
) -> None:
    safe = safe_text(text, encoding)
    safe.encode(encoding)
    controls = {c for c in safe if unicodedata.category(c) in {"Cc", "Zl", "Zp"}}
    assert controls <= {"\n", "\t"}
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLI", "LRI"} for c in safe)


@given(pieces=PIECES, encoding=st.sampled_from(["utf-8", "ascii"]), colour=st.booleans())
def test_no_piece_reaches_the_terminal_raw(
    pieces: list[tuple[str, TokenOrigin]], encoding: str, colour: bool
) -> None:
    shown = Screen(encoding, colour=colour).show(*pieces)
    own = shown.replace("\x1b[32m", "").replace("\x1b[1;31m", "").replace("\x1b[33m", "")
    own = own.replace("\x1b[36m", "")
    assert "\x1b" not in own.replace("\x1b[0m", "")


def test_a_table_shows_numbers_shortly_and_leaves_unknown_cells_empty() -> None:
    screen = Screen()
    print_table(screen.console, "Speed", ["run", "tok/s"], [["[a]", 12.3456], ["b\x1b", None]])
    lines = screen.text().splitlines()
    assert lines[0].strip() == "Speed"
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert cells == [["[a]", "12.3"], ["b\\x1b", ""]]
