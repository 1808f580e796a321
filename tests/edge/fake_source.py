"""Answers for a chat out of a list, and a user and a screen to go with them."""

import asyncio
import io
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.chat.figures import AnswerFigures
from outrider_edge.chat.sources import Messages, OnText
from outrider_edge.chat.terminal import InputEndedError, Screen

STATS = GenerationStats(num_hedged=4, num_passes=4, time_to_first_token_s=0.5, duration_s=2.0)
ENDLESS = "..."
"""An answer that begins like this and has no end."""


@dataclass
class FakeSource:
    """Says `answers`, one after another; an error is raised instead.

    Attributes:
        answers: what it says.
        asked: what it was asked, and with which settings.
        has_begun: set once an endless answer has begun.
    """

    answers: list[str | Exception]
    title: str = "fake"
    asked: list[tuple[Messages, SamplingSettings]] = field(default_factory=list)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(
        self, messages: Messages, sampling: SamplingSettings, on_text: OnText
    ) -> AnswerFigures:
        self.asked.append((messages, sampling))
        said = self.answers.pop(0)
        if isinstance(said, Exception):
            raise said
        for character in said.removeprefix(ENDLESS):
            on_text(character)
            await asyncio.sleep(0)
        if said.startswith(ENDLESS):
            self.has_begun.set()
            await asyncio.Event().wait()
        return AnswerFigures(FinishReason.STOP, AcceptanceMode.EXACT, STATS, None)


class TypedLines:
    """A user who types these lines and then Ctrl-D; an exception is what another key does."""

    def __init__(self, lines: Iterable[str | Exception]) -> None:
        self._lines = iter(lines)

    async def read(self) -> str:
        line = next(self._lines, InputEndedError())
        if isinstance(line, Exception):
            raise line
        return line


def a_screen() -> tuple[Screen, io.StringIO]:
    """A screen, and what is shown on it."""
    shown = io.StringIO()
    return Screen(Console(file=shown, width=200)), shown
