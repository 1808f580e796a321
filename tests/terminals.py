"""Commands at a pseudo terminal, the way a person uses them."""

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

CTRL_C, CTRL_D, ENTER, ALT_ENTER, UP = "\x03", "\x04", "\r", "\x1b\r", "\x1b[A"

PATIENCE_S = 120
"""After so long without a sign the command is taken to hang."""

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>]|\][^\x07]*\x07)")


@dataclass
class Terminal:
    """A command and the terminal that it runs at.

    Attributes:
        process: the command.
        descriptor: our end of the terminal.
    """

    process: "subprocess.Popen[bytes]"
    descriptor: int
    _seen: str = field(default="", init=False)
    _taken: int = field(default=0, init=False)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.descriptor, keys.encode())

    def until(self, text: str) -> str:
        """Wait for a text; returns everything since the last one. The test's time limit holds."""
        while (found := self._seen.find(text, self._taken)) < 0:
            self._read(text)
        passage = self._seen[self._taken : found + len(text)]
        self._taken = found + len(text)
        return passage

    def end(self) -> int:
        """Wait for the command's end; its status."""
        while True:
            try:
                self._read("the end")
            except AssertionError:
                return self.process.wait()

    @property
    def seen(self) -> str:
        """All that was shown, without colours and cursor movements."""
        return self._seen

    def _read(self, awaited: str) -> None:
        ready, _, _ = select.select([self.descriptor], [], [], PATIENCE_S)
        assert ready, f"nothing more came before {awaited!r}; the command said:\n{self._seen}"
        try:
            data = os.read(self.descriptor, 65536)
        except OSError:  # Linux's way to say that nobody is at the other end
            data = b""
        assert data, f"the command ended before it said {awaited!r}; it said:\n{self._seen}"
        plain = _ESCAPES.sub("", data.decode(errors="replace"))
        self._seen += plain.replace("\r\n", "\n")


def _make_it_ours() -> None:
    """In the command: the terminal is the one whose keys can interrupt it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def at_a_terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """`outrider ARGUMENTS` at a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 200))
    process = subprocess.Popen(
        [sys.executable, "-m", "outrider", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=_make_it_ours,
        env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
