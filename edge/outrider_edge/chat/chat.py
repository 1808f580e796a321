"""A chat: reads lines, carries out what they mean, and shows answers as they come.

Whatever goes wrong with one answer, the conversation goes on. Terminal and answers are passed in.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from outrider_common.errors import InvalidPromptError, OutriderError
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.answer_sums import AnswerSums
from outrider_edge.chat.answer_on_screen import AnswerOnScreen
from outrider_edge.chat.commands import (
    HELP,
    Action,
    Help,
    Quit,
    Reset,
    Save,
    Say,
    SetSampling,
    SetSystem,
    ShowStats,
    parse,
    shown,
    with_values,
)
from outrider_edge.chat.conversation import Conversation
from outrider_edge.chat.sources import AnswerSource
from outrider_edge.chat.terminal import InputDroppedError, InputEndedError, LineReader, Screen

_HOW_TO_END: Final = "Ctrl-D ends the chat."
_OWNER_ONLY: Final = 0o600


class Chat:
    """One conversation.

    Args:
        source: answers.
        sampling: how tokens are chosen, until the user says otherwise.
        reader: what the user types.
        screen: what the user sees.
        system: the system message, if there is one.
    """

    def __init__(
        self,
        source: AnswerSource,
        sampling: SamplingSettings,
        reader: LineReader,
        screen: Screen,
        system: str | None = None,
    ) -> None:
        self._source = source
        self._sampling = sampling
        self._reader = reader
        self._screen = screen
        self._conversation = Conversation(system)
        self._sums = AnswerSums()
        self._answering: asyncio.Task[None] | None = None

    @property
    def conversation(self) -> Conversation:
        """What was said so far."""
        return self._conversation

    async def run(self) -> None:
        """Chat until the user ends it."""
        self._screen.note(f"{self._source.title}. /help says what can be typed, Ctrl-D ends.")
        with self._interruptible(), contextlib.suppress(InputEndedError):
            while (action := await self._next()) != Quit():
                await self._do(action)

    async def _next(self) -> Action:
        """What the user wants next."""
        while True:
            try:
                if (action := parse(await self._reader.read())) is not None:
                    return action
            except InputDroppedError:
                self._screen.note(_HOW_TO_END)
            except OutriderError as error:
                self._screen.problem(str(error))

    async def _do(self, action: Action) -> None:
        try:
            match action:
                case Say(text):
                    await self._say(text)
                case SetSampling() if action.values:
                    self._sampling = with_values(self._sampling, action)
                case Save(file):
                    self._save(file)
                case _:
                    self._do_at_once(action)
        except InvalidPromptError as error:
            self._screen.problem(f"{error} Or say /reset to begin anew; /save keeps this chat.")
        except OutriderError as error:
            self._screen.problem(str(error))

    def _do_at_once(self, action: Action) -> None:
        """What cannot fail."""
        match action:
            case Reset():
                self._conversation.reset()
                self._screen.note("The conversation is empty.")
            case SetSystem(text):
                self._conversation.system = text
                self._screen.note("The system message is set." if text else "No system message.")
            case SetSampling():
                self._screen.note(shown(self._sampling))
            case ShowStats():
                self._screen.note(_in_words(self._sums))
            case Help():
                self._screen.note(HELP)

    async def _say(self, text: str) -> None:
        """Ask, and show the answer as it comes. Ctrl-C stops it, and what was written stays."""
        self._conversation.ask(text)
        written = AnswerOnScreen(self._screen)
        self._answering = asyncio.create_task(self._answer(written), name="answer")
        is_partial = True
        try:
            await self._answering
            is_partial = False
        except asyncio.CancelledError:
            if not self._was_stopped:
                raise
            self._screen.note(_STOPPED if written.text else _WITHDRAWN)
        finally:
            self._answering = None
            self._screen.end_answer()
            self._conversation.answer(written.text, is_partial=is_partial)

    async def _answer(self, written: AnswerOnScreen) -> None:
        messages = self._conversation.messages
        figures = await self._source.answer(messages, self._sampling, written.show)
        if figures.finish_reason is not None:
            self._sums.add(figures.stats)
        self._screen.note(figures.line(self._sampling.max_tokens))

    @property
    def _was_stopped(self) -> bool:
        """Whether it was the answer that was cancelled, and not the chat."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() == 0

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """SIGINT stops the answer that is being written; else it is as at the prompt."""

        def stop() -> None:
            if self._answering is not None:
                self._answering.cancel()
            else:
                self._screen.note(_HOW_TO_END)

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, stop)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _save(self, file: Path) -> None:
        conversation = self._conversation
        is_json = file.suffix == ".json"
        text = conversation.as_json() if is_json else conversation.as_markdown()
        try:
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _OWNER_ONLY)
            with os.fdopen(handle, "w", encoding="utf-8") as saved:
                saved.write(text)
        except OSError as error:
            raise OutriderError(
                f"{file} cannot be written ({error.strerror}); name another file."
            ) from error
        self._screen.note(f"{len(conversation.turns)} messages are in {file}.")


_STOPPED: Final = "Stopped; what was written stays in the conversation."
_WITHDRAWN: Final = "Stopped before the first word; the question is withdrawn."


def _in_words(sums: AnswerSums) -> str:
    if sums.num_answers == 0:
        return "There is no complete answer yet."
    total = sums.total()
    names = ("num_answers", "num_tokens", "tokens_per_s", "acceptance_rate", "tokens_per_pass")
    values = ((name.removeprefix("num_").replace("_", " "), total[name]) for name in names)
    return "  ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values
        if value is not None
    )
