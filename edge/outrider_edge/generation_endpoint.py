"""The two endpoints that generate: `/v1/chat/completions` and `/v1/completions`.

Reads a request, runs its generations, and says what they write, whole or piece by piece. Decides
nothing about parameters (`openai_requests`) and wording (`openai_responses`).
"""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Receive, Scope, Send

from outrider_common import log
from outrider_common.errors import OutriderError
from outrider_common.settings.sampling import SamplingSettings
from outrider_common.spans import called_by
from outrider_edge.choice_stream import Event, Finished, Foreseen, Traced, Written
from outrider_edge.generation import GenerationResult
from outrider_edge.http_exchange import (
    EVENT_STREAM_HEADERS,
    JSON_HEADERS,
    ClientGoneError,
    Exchange,
    encode_event,
    encode_json,
)
from outrider_edge.idempotency_key import KEY_HEADER, idempotency_key
from outrider_edge.journal.desk import Asked, Head
from outrider_edge.json_fields import parse_json
from outrider_edge.live_trace import Json, TextOf, event_json
from outrider_edge.logprob_wording import SpokenTokens
from outrider_edge.making import Making, making
from outrider_edge.offline import OfflineQueue
from outrider_edge.openai_errors import TakenBackError, error_answer
from outrider_edge.openai_requests import ApiRequest, FreshSeed
from outrider_edge.openai_responses import AnswerForm
from outrider_edge.serving import Serving
from outrider_edge.told_choice import (
    Change,
    Confirmed,
    Corrected,
    MoreUnverified,
    MoreVerified,
    ToldChoice,
    text_of,
)
from outrider_edge.unverified import Token

_logger = logging.getLogger(__name__)

DONE: Final = b"data: [DONE]\n\n"

UNVERIFIED_HEADERS: Final = {"x-outrider-verified": "false"}
"""Of an answer in one piece that no verifier has seen, or not all of it."""

KEEP_ALIVE_S: Final = 2.0
"""How often the client of a stream that waits for a verifier hears of it."""

CLIENT_GONE: Final = "client_gone"
BROKEN_OFF: Final = "broken_off"

Events = Callable[[], Awaitable[Sequence[Event]]]
"""Waits for what has happened since the last time."""

Parse = Callable[[object, SamplingSettings, FreshSeed], ApiRequest]
"""Turns the body of a request into what it asks for."""


@dataclass(frozen=True, slots=True)
class GenerationEndpoint:
    """One endpoint, as an ASGI application.

    Attributes:
        route: its path, for logs and figures.
        id_prefix: how the names of its answers begin.
        parse: reads its requests.
        form: words its answers.
        serving: what all requests share.
    """

    route: str
    id_prefix: str
    parse: Parse
    form: type[AnswerForm]
    serving: Serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        timeout_s = self.serving.settings.client_timeout_s
        request_id = f"{self.id_prefix}-{secrets.token_hex(12)}"
        exchange = Exchange(scope, receive, send, request_id=request_id, client_timeout_s=timeout_s)
        began = time.perf_counter()
        outcome = CLIENT_GONE
        try:
            with called_by(exchange.trace_headers()):
                outcome = await self._outcome(exchange, began)
        except ClientGoneError:
            pass
        finally:
            self.serving.metrics.requests.labels(self.route, outcome).inc()
            self._log_end(request_id, outcome, time.perf_counter() - began)

    def _log_end(self, request_id: str, outcome: str, seconds: float) -> None:
        log.event(
            _logger,
            "request_ended",
            request_id=request_id,
            route=self.route,
            outcome=outcome,
            seconds=round(seconds, 4),
        )

    async def _outcome(self, exchange: Exchange, began: float) -> str:
        try:
            body = await exchange.read(self.serving.settings.max_body_bytes)
            await exchange.unless_gone(self._answer(exchange, body, began))
        except ClientGoneError:
            raise
        except Exception as error:
            _log_defect(error)
            answer = error_answer(error)
            if exchange.status is None:
                await exchange.reply_error(answer)
            else:
                await exchange.end(encode_event(answer.body))
                return BROKEN_OFF
        return str(exchange.status)

    async def _answer(self, exchange: Exchange, body: bytes, began: float) -> None:
        document = parse_json(body)
        request = self.parse(document, self.serving.sampling, _fresh_seed)
        async with _kept_alive(exchange, self.serving.offline if request.stream else None):
            await self._answer_to(exchange, request, document, began)

    async def _answer_to(
        self, exchange: Exchange, request: ApiRequest, document: object, began: float
    ) -> None:
        key = idempotency_key(exchange.header(KEY_HEADER))
        if key is None:
            await self._answer_anew(exchange, request, began)
            return

        def prepare(seed: int | None) -> AbstractAsyncContextManager[Making]:
            wanted = request if seed is None else request.with_seed(seed)
            return making(self.serving, wanted, exchange.request_id, began)

        asked = Asked(key, _canonical(self.route, document))
        async with self.serving.answers.attached(asked, prepare) as attached:
            heading = attached.heading
            form = self._form(heading, heading.seed, attached.spelling)
            conversation = _conversation(attached.reader.events, form, heading, request)
            await conversation.go_on(exchange, request)

    async def _answer_anew(self, exchange: Exchange, request: ApiRequest, began: float) -> None:
        async with (
            making(self.serving, request, exchange.request_id, began) as made,
            made.stream(made.generations) as stream,
        ):

            async def events() -> list[Event]:
                news = await stream.events()
                made.note(news)
                return news

            form = self._form(made, made.generations[0].sampling.seed, made.spelling)
            await _conversation(events, form, made, request).go_on(exchange, request)

    def _form(self, head: Head, seed: int, text_of: TextOf) -> AnswerForm:
        return self.form(
            answer_id=head.answer_id,
            created=head.created,
            model=head.model,
            seed=seed,
            text_of=text_of,
        )


@contextlib.asynccontextmanager
async def _kept_alive(exchange: Exchange, queue: OfflineQueue | None) -> AsyncIterator[None]:
    """While requests wait for a verifier, this one's client hears something now and then."""

    async def say_so() -> None:
        while queue:
            await asyncio.sleep(KEEP_ALIVE_S)
            if queue.num_waiting:
                await exchange.keep_alive()

    saying = asyncio.create_task(say_so(), name="keep-alive")
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


def _conversation(
    events: Events, form: AnswerForm, head: Head, request: ApiRequest
) -> "Conversation":
    handling = request.handling
    return Conversation(
        events,
        form,
        head.num_prompt_tokens,
        request.num_answers,
        Watching(form) if handling.is_traced else None,
        handling.takes_corrections,
    )


def _canonical(route: str, document: object) -> bytes:
    """The same for two requests that differ only in the order of fields, and in blanks."""
    return json.dumps([route, document], sort_keys=True).encode()


@dataclass(slots=True)
class Conversation:
    """One answer on its way to the client.

    Attributes:
        events: waits for what has happened since the last time.
        form: how it is worded.
        num_prompt_tokens: of all prompts.
        num_choices: how many there will be.
        watching: tells everything that happens; None: nobody asked.
        takes_corrections: the client takes back what was not verified, and turned out wrong.
    """

    events: Events
    form: AnswerForm
    num_prompt_tokens: int
    num_choices: int
    watching: "Watching | None" = None
    takes_corrections: bool = False
    _results: dict[int, GenerationResult] = field(init=False, default_factory=dict)
    _spoken: defaultdict[int, SpokenTokens] = field(
        init=False, default_factory=lambda: defaultdict(SpokenTokens)
    )
    _told: defaultdict[int, ToldChoice] = field(
        init=False, default_factory=lambda: defaultdict(ToldChoice)
    )

    async def go_on(self, exchange: Exchange, request: ApiRequest) -> None:
        """Send the answer in the way that was asked for."""
        if request.stream:
            await self.stream(exchange, include_usage=request.include_usage)
        else:
            await self.whole(exchange)

    async def whole(self, exchange: Exchange) -> None:
        """Send the answer in one piece, when it is complete."""
        while not self._is_complete:
            self._note(await self.events())
        results = self._in_order()
        document = self.form.whole(results, self.num_prompt_tokens)
        is_verified = all(result.is_verified for result in results)
        headers = JSON_HEADERS if is_verified else JSON_HEADERS | UNVERIFIED_HEADERS
        await exchange.reply(200, encode_json(document), headers)

    async def stream(self, exchange: Exchange, *, include_usage: bool) -> None:
        """Send the answer as server-sent events, as it is written.

        What fails before the first token still gets a status of its own.
        """
        pieces = self._take(await self.events())
        if exchange.status is None:
            await exchange.start(200, EVENT_STREAM_HEADERS)
        openings = filter(None, map(self.form.opening, range(self.num_choices)))
        await exchange.more(b"".join(map(encode_event, openings)) + pieces)
        while not self._is_complete:
            await exchange.more(self._take(await self.events()))
        last = self.form.last(self._in_order(), self.num_prompt_tokens, include_usage=include_usage)
        await exchange.end(encode_event(last) + DONE)

    @property
    def _is_complete(self) -> bool:
        return len(self._results) == self.num_choices

    def _in_order(self) -> list[GenerationResult]:
        return [self._results[i] for i in range(self.num_choices)]

    def _note(self, events: Sequence[Event]) -> None:
        """Note which choices are complete."""
        for event in events:
            if isinstance(event, Finished):
                self._results[event.index] = event.result

    def _take(self, events: Sequence[Event]) -> bytes:
        """Note what has happened; returns it as server-sent events.

        Tokens that came together go together, after what led to them.

        Raises:
            TakenBackError: unverified text was wrong, and the client takes nothing back.
        """
        self._note(events)
        watched = self.watching.watch(events) if self.watching else b""
        tokens: dict[int, list[Token]] = {event.index: [] for event in events}
        for event in events:
            match event:
                case Written(index, token) | Foreseen(index, token):
                    tokens[index].append(token)
        pieces = b"".join(self._pieces(index, said) for index, said in tokens.items())
        ended = [event for event in events if isinstance(event, Finished)]
        return watched + pieces + b"".join(map(self._ending, ended))

    def _pieces(self, index: int, tokens: Sequence[Token]) -> bytes:
        """What has changed in one choice."""
        result = self._results.get(index)
        is_over = result is not None and result.is_verified
        changes = self._told[index].take(tokens, is_over=is_over)
        said = (self._change(index, change) for change in changes)
        return b"".join(encode_event(document) for document in said if document)

    def _change(self, index: int, change: Change) -> Json | None:
        """A change in the client's words; nothing where tokens have added no text yet."""
        match change:
            case MoreVerified(records):
                spoken = self._spoken[index].take(records)
                text = text_of(records)
                return self.form.piece(index, text, spoken) if text else None
            case MoreUnverified(since, tokens):
                text = text_of(tokens)
                return self.form.unverified(index, text, since) if text else None
            case Confirmed(until, records) if self.takes_corrections:
                return self.form.confirmed(index, until, self._spoken[index].take(records))
            case Corrected(since, records) if self.takes_corrections:
                spoken = self._spoken[index].take(records)
                return self.form.correction(index, since, text_of(records), spoken)
            case Corrected():
                told = self._told[index]
                raise TakenBackError(told.verified_text, told.num_verified)
            case _:
                return None

    def _ending(self, event: Finished) -> bytes:
        left = self._spoken[event.index].rest(event.result.finish_reason)
        return encode_event(self.form.ending(event.index, event.result, left))


@dataclass(frozen=True, slots=True)
class Watching:
    """Tells a client that asked what happens on the way to its answer.

    Attributes:
        form: how the answer is worded.
    """

    form: AnswerForm

    def watch(self, events: Sequence[Event]) -> bytes:
        """What has happened, as a server-sent event for each choice."""
        said: defaultdict[int, list[Json]] = defaultdict(list)
        for event in events:
            match event:
                case Traced(index, what) | Written(index, what) | Foreseen(index, what):
                    said[index].append(event_json(what, self.form.text_of))
        told = (self.form.traced(index, events) for index, events in said.items())
        return b"".join(map(encode_event, told))


def _fresh_seed() -> int:
    """Any seed; half as long as it may be, so that JavaScript can read it exactly."""
    return secrets.randbits(32)


def _log_defect(error: Exception) -> None:
    """What is not meant for the client is for the log."""
    if not isinstance(error, OutriderError):
        log.event(_logger, "request_failed", level=logging.ERROR, error=error)
