"""The generations of one request, side by side, and what they say as it comes.

Knows nothing of HTTP. Leaving the stream ends what still runs, on the verifier, too.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from outrider_common.errors import CapacityError
from outrider_common.messages import ModelInfo
from outrider_common.records import TokenRecord
from outrider_edge.answer import OnToken
from outrider_edge.estimators import Estimators
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.handling import AS_USUAL, Handling
from outrider_edge.link import VerifierLink
from outrider_edge.lone_drafter import LoneDrafter
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_edge.tracing import TraceEvent, TraceRecorder
from outrider_edge.unverified import Token, UnverifiedToken

OnTold = Callable[[Token], None]
"""Takes each verified token, in order, and those that are not verified yet; returns at once."""


class Generator(Protocol):
    """What answers a request."""

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnTold,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        """Answer one request; see `EdgeRuntime.generate`."""
        ...


class ServingRuntime(Generator, Protocol):
    """What a daemon needs of an `EdgeRuntime`."""

    @property
    def tokenizer(self) -> EdgeTokenizer:
        """Text in, text out."""
        ...

    @property
    def info(self) -> ModelInfo:
        """What the verifier said of its model."""
        ...

    @property
    def infos(self) -> Mapping[str, ModelInfo]:
        """What is known of each model that is there, by name."""
        ...

    def at(self, model: str) -> "ServingRuntime":
        """The same with another of these models."""
        ...

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        """Answer one request; it tells verified tokens only. See `EdgeRuntime.generate`."""
        ...

    def hasty(self, num_breaks: int) -> "ServingRuntime":
        """The same, but it soon gives up where no verifier takes sessions; see `Patience`."""
        ...

    def lone_drafter(self, request: GenerationRequest, policy: str | None) -> LoneDrafter | None:
        """What writes an answer while no verifier is there; None where nothing can, or may."""
        ...

    def verifiers(self) -> list[dict[str, Any]]:
        """How each verifier is."""
        ...

    @property
    def link(self) -> VerifierLink:
        """The way to the verifier."""
        ...

    @property
    def estimators(self) -> Estimators:
        """The pace of link, verifier and drafter."""
        ...

    @property
    def policies(self) -> Collection[str]:
        """The names of those that a request may ask for."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A choice has one token more."""

    index: int
    record: TokenRecord


@dataclass(frozen=True, slots=True)
class Foreseen:
    """The drafter has written a token more of a choice, behind those that are verified."""

    index: int
    token: UnverifiedToken


@dataclass(frozen=True, slots=True)
class Finished:
    """A choice is complete; verified, or no verifier came in time."""

    index: int
    result: GenerationResult


@dataclass(frozen=True, slots=True)
class Traced:
    """Something happened on the way to a choice."""

    index: int
    event: TraceEvent


Event = Written | Foreseen | Finished | Traced


class Slots:
    """Room for so many generations at the same time; nobody waits for it."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._num_taken = 0

    @property
    def num_taken(self) -> int:
        """Generations that run now."""
        return self._num_taken

    def take(self, num_wanted: int) -> None:
        """Take room for the generations of one request; `give_back` returns it.

        Raises:
            BadRequestError: there will never be so much.
            CapacityError: there is not so much now.
        """
        if num_wanted > self._num_slots:
            raise BadRequestError(
                f"The request asks for {num_wanted} answers, but at most {self._num_slots} are "
                "generated at the same time; ask for fewer with n, or in several requests.",
                "n",
            )
        if self._num_taken + num_wanted > self._num_slots:
            raise CapacityError(
                f"{self._num_taken} of {self._num_slots} answers are being generated, and this "
                f"request asks for {num_wanted}; try again."
            )
        self._num_taken += num_wanted

    def may_take(self, num_wanted: int) -> bool:
        """Whether waiting for so much room is over: there is so much, or there never will be."""
        return num_wanted > self._num_slots or self._num_taken + num_wanted <= self._num_slots

    def resize(self, num_slots: int) -> None:
        """Have another number of places; answers that run now go on all the same."""
        self._num_slots = num_slots

    def give_back(self, num_taken: int) -> None:
        """Return what `take` took."""
        self._num_taken -= num_taken


class ChoiceStream:
    """Runs generations as tasks, and gathers what they say.

    What waits to be read is bounded by the lengths of the answers and of their traces: a client
    that reads slowly finds more in each batch, and holds up nobody.

    Args:
        runtime: generates.
        requests: one for each choice.
        handling: how they are made.
        indices: which choices they are; None: all, from 0.
    """

    def __init__(
        self,
        runtime: Generator,
        requests: Sequence[GenerationRequest],
        handling: Handling = AS_USUAL,
        indices: Sequence[int] | None = None,
    ) -> None:
        self._runtime = runtime
        self._requests = requests
        self._indices = range(len(requests)) if indices is None else indices
        self._handling = handling
        self._events: deque[Event] = deque()
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._run(i, request), name=f"choice-{i}")
            for i, request in zip(self._indices, self._requests, strict=True)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()  # each holds what ended it, whose frames hold this stream

    async def events(self) -> list[Event]:
        """What has happened since the last time; waits until there is something.

        Raises:
            Exception: what ended one of the choices, after everything that was written before.
        """
        await self._news.wait()
        if not self._events and self._error is not None:
            raise self._error
        events = list(self._events)
        self._events.clear()
        if self._error is None:
            self._news.clear()
        return events

    def abort(self, error: Exception) -> None:
        """End it: after what has been written comes this error, unless there is one already."""
        self._error = self._error or error
        self._news.set()

    async def _run(self, index: int, request: GenerationRequest) -> None:
        try:
            result = await self._runtime.generate(
                request,
                lambda token: self._say(_told(index, token)),
                self._recorder(index),
                self._handling.policy,
            )
        except Exception as error:  # whoever reads the events says it to the client
            self.abort(error)
        else:
            self._say(Finished(index, result))

    def _recorder(self, index: int) -> TraceRecorder | None:
        if not self._handling.is_traced:
            return None
        return TraceRecorder(on_event=lambda event: self._say(Traced(index, event)))

    def _say(self, event: Event) -> None:
        if self._error is None:
            self._events.append(event)
            self._news.set()


def _told(index: int, token: Token) -> Written | Foreseen:
    if isinstance(token, TokenRecord):
        return Written(index, token)
    return Foreseen(index, token)
