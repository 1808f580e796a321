"""The two ends of a chat at a terminal: a line editor, and what is shown.

What a model says is made harmless first. Knows nothing of models and of what lines mean.
"""

import contextlib
import termios
from collections.abc import Iterator
from typing import Final, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from rich.console import Console

from outrider_edge.render import safe_text

PROMPT: Final = "> "
CONTINUED: Final = "| "

_INPUT_FLAGS, _LOCAL_FLAGS = 0, 3  # where `termios` has them


class InputEndedError(Exception):
    """Ctrl-D: the user types no more."""


class InputDroppedError(Exception):
    """Ctrl-C: the user does not want the line that was being typed."""


class LineReader(Protocol):
    """Where lines come from."""

    async def read(self) -> str:
        """The next line, which may hold line breaks.

        Raises:
            InputEndedError: there are no more.
            InputDroppedError: this one is not wanted.
        """
        ...


class TerminalReader:
    """A line editor: history with the arrow keys, Alt-Enter for another line.

    Args:
        history: what was typed before; it learns.
    """

    def __init__(self, history: History) -> None:
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            history=history,
            key_bindings=_keys(),
            multiline=True,
            prompt_continuation=CONTINUED,
            interrupt_exception=InputDroppedError,
            eof_exception=InputEndedError,
        )

    async def read(self) -> str:
        """See `LineReader.read`."""
        return await self._session.prompt_async(handle_sigint=False)


@contextlib.contextmanager
def quiet_keys(descriptor: int) -> Iterator[None]:
    """Keys pressed while nothing is read are kept as they are for the next line, and not shown.

    Else the terminal would show them in the middle of an answer, turn Enter into a line feed, and
    lose Ctrl-D. Ctrl-C still interrupts.
    """
    before = termios.tcgetattr(descriptor)
    quiet = termios.tcgetattr(descriptor)
    quiet[_INPUT_FLAGS] &= ~termios.ICRNL
    quiet[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
    termios.tcsetattr(descriptor, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _keys() -> KeyBindings:
    """Enter sends, unless a backslash stands before it."""
    keys = KeyBindings()

    @keys.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def _alt_enter(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class Screen:
    """What is shown: answers as they come, and notes about them.

    Args:
        console: where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_mid_line = False

    def piece(self, text: str, *, is_verified: bool = True) -> None:
        """More of an answer; dim, while no verifier has seen it."""
        if text:
            self._is_mid_line = not text.endswith("\n")
            safe = safe_text(text, self._console.encoding)
            self._console.out(safe, style=None if is_verified else "dim", highlight=False, end="")

    def unverified(self) -> None:
        """What follows is not verified: said in words, too, as not every terminal can dim."""
        self.note("No verifier is there; what follows is the drafter's alone.")

    def correction(self, line: str, text: str) -> None:
        """What was shown after a line, or its beginning, was wrong; this comes there instead."""
        self.note("The verifier is back and writes something else:")
        self.piece(line + text)

    def end_answer(self) -> None:
        """No more of this answer."""
        if self._is_mid_line:
            self._console.out("")
            self._is_mid_line = False

    def note(self, text: str) -> None:
        """Something that is not the model's, on lines of its own."""
        self._say(text, "dim")

    def problem(self, text: str) -> None:
        """What went wrong, and what to do."""
        self._say(text, "red")

    def _say(self, text: str, style: str) -> None:
        self.end_answer()
        safe = safe_text(text, self._console.encoding)
        self._console.print(safe, style=style, markup=False, highlight=False, soft_wrap=True)
