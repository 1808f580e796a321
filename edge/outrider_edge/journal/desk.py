"""Answers each key once: a request that comes again reads what is written, or was written before.

What is being written goes on for a while when nobody reads it, and is then laid aside: a later
request goes on with it. Knows nothing of HTTP, and nothing of how an answer is made.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final, Protocol
from weakref import WeakValueDictionary

from outrider_common.errors import UnavailableError
from outrider_edge.choice_stream import ChoiceStream, Event, Written
from outrider_edge.generation import GenerationRequest
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal, Pen
from outrider_edge.journal.kept_answer import Heading, KeptAnswer, Spelling, digest
from outrider_edge.journal.shared_answer import Reader, SharedAnswer
from outrider_edge.openai_errors import ReusedKeyError

DEFAULT_BOUNDS: Final = Bounds(max_answers=256, max_bytes=64 << 20, max_age_s=86400.0)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may come again.

    Attributes:
        key: by which the client knows it.
        body: what it asks for; with the same key it must be the same.
    """

    key: str
    body: bytes


class Head(Protocol):
    """What is known of an answer before it begins."""

    @property
    def answer_id(self) -> str:
        """The name of the answer."""
        ...

    @property
    def created(self) -> int:
        """When it was asked for, in seconds since 1970."""
        ...

    @property
    def model(self) -> str:
        """The target's name."""
        ...

    @property
    def num_prompt_tokens(self) -> int:
        """Of all prompts."""
        ...


class Making(Head, Protocol):
    """How an answer is made."""

    @property
    def generations(self) -> Sequence[GenerationRequest]:
        """One for each choice."""
        ...

    def stream(
        self, generations: Sequence[GenerationRequest], indices: Sequence[int]
    ) -> AbstractAsyncContextManager[ChoiceStream]:
        """Write some of the choices."""
        ...

    def spelling(self, token: int) -> str:
        """What a token reads as alone."""
        ...

    def note(self, events: Sequence[Event]) -> None:
        """Count what has happened."""
        ...


Prepare = Callable[[int | None], AbstractAsyncContextManager[Making]]
"""Makes ready to write; takes the seed of the first choice, None for any that is asked for."""


@dataclass(frozen=True, slots=True)
class Attached:
    """A client's place in an answer.

    Attributes:
        heading: what is known of it from the beginning.
        reader: says what is written.
        spelling: what a token reads as alone.
    """

    heading: Heading
    reader: Reader
    spelling: Callable[[int], str]


@dataclass(slots=True)
class _Current:
    """An answer that is being written, or is complete."""

    heading: Heading
    answer: SharedAnswer
    spelling: Callable[[int], str]
    task: "asyncio.Task[None] | None" = None
    lingering: asyncio.TimerHandle | None = None


class AnswerDesk:
    """Keeps what is being written, and finds what was.

    Args:
        journal: what outlives the process.
        linger_s: for how long an answer is written on when nobody reads it any more.
    """

    def __init__(self, journal: Journal, linger_s: float) -> None:
        self._journal = journal
        self._linger_s = linger_s
        self._running: dict[str, _Current] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self) -> None:
        """Keep the journal until cancelled; then lay aside what is not complete."""
        try:
            await self._journal.run()
        finally:
            for current in list(self._running.values()):
                self._lay_aside(current)
                await _ended(current)
            await self._journal.close()

    @contextlib.asynccontextmanager
    async def attached(self, asked: Asked, prepare: Prepare) -> AsyncIterator[Attached]:
        """The answer to a request, from its beginning; it is begun if there is none.

        Raises:
            ReusedKeyError: the key stands for another request.
            OutriderError: what `prepare` raises.
        """
        turn = self._turns.setdefault(asked.key, asyncio.Lock())
        async with turn:  # who comes with the same key at the same time finds what is begun here
            current = await self._current(asked, prepare)
            reader = current.answer.attach()
        if current.lingering:
            current.lingering.cancel()
        try:
            yield Attached(current.heading, reader, current.spelling)
        finally:
            current.answer.detach(reader)
            self._linger(current)

    async def _current(self, asked: Asked, prepare: Prepare) -> _Current:
        running = self._running.get(asked.key)
        if running and running.answer.is_of_use:
            _require_same(running.heading, asked)
            return running
        if running:
            await _ended(running)
        kept, num_bytes = await self._journal.read(asked.key)
        if kept:
            _require_same(kept.heading, asked)
        if kept and kept.is_complete:
            answer = SharedAnswer(kept.heading.num_choices, kept.events)
            return _Current(kept.heading, answer, kept.spellings.__getitem__)
        return await self._begun(asked, kept, num_bytes, prepare)

    async def _begun(
        self, asked: Asked, kept: KeptAnswer | None, num_bytes: int, prepare: Prepare
    ) -> _Current:
        """Begin an answer, or go on with what is kept of it."""
        async with AsyncExitStack() as stack:
            making = await stack.enter_async_context(prepare(kept.heading.seed if kept else None))
            salt = kept.heading.salt if kept else secrets.token_hex(16)
            meant = await asyncio.to_thread(_meaning, salt, making)
            if kept and kept.heading.meant == meant:
                pen = await self._journal.go_on(asked.key, num_bytes)
            else:
                kept = KeptAnswer(_heading(salt, asked, meant, making))
                pen = await self._journal.begin(asked.key, kept.heading)
            answer = SharedAnswer(kept.heading.num_choices, kept.events)
            current = _Current(kept.heading, answer, making.spelling)
            self._running[asked.key] = current
            work = self._write(asked.key, current, kept, making, pen, stack.pop_all())
            current.task = asyncio.create_task(work, name="kept-answer")
            return current

    async def _write(
        self,
        key: str,
        current: _Current,
        kept: KeptAnswer,
        making: Making,
        pen: Pen,
        held: AsyncExitStack,
    ) -> None:
        """Write what is missing, tell it, and keep it."""
        answer = current.answer
        try:
            async with held, _stream(making, kept) as stream:
                while not answer.is_complete:
                    events = await stream.events()
                    pen.add(_spelt(events, making, kept.spellings))
                    making.note(events)
                    answer.say(events)
        except Exception as error:  # whoever reads it says it to the client
            answer.fail(error)
        finally:
            pen.lay_down(is_complete=answer.is_verified, is_void=not answer.events)
            del self._running[key]

    def _linger(self, current: _Current) -> None:
        """Nobody reads it any more: lay it aside after a while."""
        if not current.answer.is_read and current.task and not current.task.done():
            loop = asyncio.get_running_loop()
            current.lingering = loop.call_later(self._linger_s, self._lay_aside, current)

    def _lay_aside(self, current: _Current) -> None:
        if current.task and not current.task.done():
            current.answer.fail(UnavailableError("The daemon is stopping; ask again."))
            current.task.cancel()


def answers_in_memory() -> AnswerDesk:
    """A desk that forgets everything when the process ends."""
    return AnswerDesk(Journal(None, DEFAULT_BOUNDS), linger_s=0.0)


async def _ended(current: _Current) -> None:
    """Wait until nothing more is written."""
    if current.task:
        await asyncio.wait([current.task])


def _stream(making: Making, kept: KeptAnswer) -> AbstractAsyncContextManager[ChoiceStream]:
    """What writes the choices that are not complete, after what there is of each."""
    missing = [i for i in range(len(making.generations)) if i not in kept.ended]
    generations = [replace(making.generations[i], written=kept.written(i)) for i in missing]
    return making.stream(generations, missing)


def _heading(salt: str, asked: Asked, meant: str, making: Making) -> Heading:
    return Heading(
        salt=salt,
        asked=digest(salt, asked.body),
        meant=meant,
        answer_id=making.answer_id,
        created=making.created,
        model=making.model,
        seed=making.generations[0].sampling.seed,
        num_choices=len(making.generations),
        num_prompt_tokens=making.num_prompt_tokens,
    )


def _meaning(salt: str, making: Making) -> str:
    """What a request came to; with other settings or another model it is something else."""
    return digest(salt, repr((making.model, making.generations)).encode())


def _require_same(heading: Heading, asked: Asked) -> None:
    if heading.asked != digest(heading.salt, asked.body):
        raise ReusedKeyError(
            f"The Idempotency-Key {asked.key!r} came with another request before; send that again, "
            "or use another key."
        )


def _spelt(
    events: Sequence[Event], making: Making, known: dict[int, str]
) -> list[Event | Spelling]:
    """The same with what the tokens that log-probabilities name read as."""
    said: list[Event | Spelling] = []
    for event in events:
        if isinstance(event, Written) and event.record.logprobs:
            named = (event.record.token, *(token for token, _ in event.record.logprobs.top))
            for token in dict.fromkeys(named):
                if token not in known:
                    known[token] = making.spelling(token)
                    said.append(Spelling(token, known[token]))
        said.append(event)
    return said
