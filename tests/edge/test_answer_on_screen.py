"""An answer of a chat whose text is not all verified: the user sees which is, and what is right."""

import io

from fake_source import a_screen
from rich.console import Console

from outrider_edge.chat.answer_on_screen import AnswerOnScreen, SureAnswer
from outrider_edge.chat.sources import Correction, Piece, Unverified
from outrider_edge.chat.terminal import Screen


def shown(*pieces: Piece) -> tuple[AnswerOnScreen, list[str]]:
    """The answer, and the lines that the user saw."""
    screen, seen = a_screen()
    answer = AnswerOnScreen(screen)
    for piece in pieces:
        answer.show(piece)
    screen.end_answer()
    return answer, seen.getvalue().splitlines()


def test_verified_text_is_shown_as_it_is() -> None:
    answer, lines = shown("An out", "rider")
    assert answer.text == "An outrider"
    assert lines == ["An outrider"]


def test_unverified_text_is_announced_once_in_words() -> None:
    answer, lines = shown("An out", Unverified("ride"), Unverified("r"))
    assert answer.text == "An outrider"
    assert lines == [
        "An out",
        "No verifier is there; what follows is the drafter's alone.",
        "rider",
    ]


def test_it_is_dim_where_the_terminal_can_dim() -> None:
    seen = io.StringIO()
    screen = Screen(Console(file=seen, force_terminal=True, color_system="standard"))
    AnswerOnScreen(screen).show(Unverified("perhaps"))
    assert "\x1b[2mperhaps\x1b[0m" in seen.getvalue()


def test_what_was_wrong_is_written_anew_from_the_beginning_of_its_line() -> None:
    answer, lines = shown(
        "One.\nTwo ", Unverified("birds\nand more"), Correction(9, "ships"), " sail."
    )
    assert answer.text == "One.\nTwo ships sail."
    assert lines[-2:] == ["The verifier is back and writes something else:", "Two ships sail."]


def test_characters_count_and_not_their_bytes() -> None:
    answer, _ = shown(Unverified("a🐎bc"), Correction(2, "!"))
    assert answer.text == "a🐎!"


def test_a_second_absence_is_announced_again() -> None:
    _, lines = shown(Unverified("a"), "b", Unverified("c"))
    assert sum("No verifier is there" in line for line in lines) == 2


def test_a_program_reads_nothing_that_is_not_verified() -> None:
    screen, seen = a_screen()
    answer = SureAnswer(screen)
    for piece in ("One ", "two ", Unverified("many"), Correction(8, "three "), "four"):
        answer.show(piece)
        assert seen.getvalue() in ("One ", "One two ")
    answer.finish()
    assert seen.getvalue() == "One two three four"
