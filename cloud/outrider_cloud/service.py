"""The gRPC rim of the verifier: one session on one stream, over any engine.

Reads and writes messages, hands drafts to the engine and its commits to the edge, and turns our
errors into statuses. Decides nothing about tokens.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Final

import grpc

from outrider.v1 import verifier_pb2 as pb
from outrider_cloud.admission import check_model_name, refuse_unknown_tokens
from outrider_cloud.audit import SessionAudit, audited
from outrider_cloud.drain import Drain
from outrider_cloud.engine import Engine, EngineEvent, EngineSession, Sink
from outrider_cloud.gate import CALLER
from outrider_cloud.handlers import Unreadable, all_readable, readable
from outrider_cloud.padded_responses import on_ticks
from outrider_cloud.refusal import Context, abort
from outrider_cloud.session_mail import SessionMail
from outrider_cloud.session_spans import SessionSums, session_span
from outrider_cloud.tenant_usage import TenantUsage
from outrider_common import log
from outrider_common.errors import (
    OutriderError,
    ProtocolViolationError,
    SlowReaderError,
    UnavailableError,
    ungrouped,
)
from outrider_common.messages import Commit, ModelInfo, Opened, OpenSession
from outrider_common.spans import NO_SPANS, Spans
from outrider_common.wire import EventEncoder, OpenAssembler, encode_model_info
from outrider_common.wire_nodes import NodeDecoder

_logger = logging.getLogger(__name__)

Requests = AsyncIterator[pb.SessionRequest]
Responses = AsyncIterator[pb.SessionResponse]

OPEN_TIMEOUT_S: Final = 20.0
"""How long an edge may take to send its whole prefix."""


MAX_UNREAD_COMMITS: Final = 16
"""A session is not decoded while so many of its commits wait for its edge to read."""

LINGER_S: Final = 5.0
"""How long a stream stays open after its last commit, or an error, for the edge to close its side
first. A write that meets the end of a stream makes gRPC drop what the edge has not read yet."""


class VerifierServicer:
    """`outrider.v1.VerifierService` over an engine.

    Args:
        engine: verifies.
        drain: knows when the verifier is about to end.
        usage: of tenants; sessions hold tokens there.
        spans: where sessions are traced.
        slow_reader_s: how long an edge may take to read what waits for it; 0: for ever.
    """

    def __init__(
        self,
        engine: Engine,
        drain: Drain | None = None,
        usage: TenantUsage | None = None,
        spans: Spans = NO_SPANS,
        slow_reader_s: float = 0.0,
    ) -> None:
        self._engine = engine
        self._drain = drain or Drain()
        self._usage = usage or TenantUsage()
        self._spans = spans
        self._slow_reader_s = slow_reader_s

    async def GetModelInfo(  # noqa: N802  (the name on the wire)
        self, request: pb.GetModelInfoRequest | Unreadable, context: Context
    ) -> pb.GetModelInfoResponse:
        """What a client needs to know of the model before it opens a session."""
        try:
            self._drain.refuse_if_begun()
            check_model_name(readable(request).model, self._engine.info)
        except OutriderError as error:
            await abort(context, error)
        return encode_model_info(replace(self._engine.info, occupancy=self._engine.occupancy))

    async def Session(self, requests: Requests, context: Context) -> None:  # noqa: N802
        """One generation."""
        try:
            await self._serve(all_readable(requests), context)
        except SlowReaderError as error:
            with contextlib.suppress(TimeoutError):  # it may not read this either
                async with asyncio.timeout(LINGER_S):
                    await abort(context, error, requests)
        except OutriderError as error:
            await abort(context, error, requests)

    async def _serve(self, requests: Requests, context: Context) -> None:
        self._drain.refuse_if_begun()
        message = await self._read_open(requests)
        self._drain.refuse_if_begun()  # it may have begun meanwhile
        caller, info = CALLER.get(), self._engine.info
        with (
            audited(caller, context.peer(), info.model, message) as audit,
            self._usage.held(caller, _most_tokens(message, info)),
            self._traced(message, context) as sums,
        ):
            await self._answer(message, requests, context, audit, sums)

    @contextlib.contextmanager
    def _traced(self, message: OpenSession, context: Context) -> Iterator[SessionSums]:
        """A span of the session; it gets what the session adds up to."""
        sums = SessionSums()
        named = session_span(message, self._engine.info.model)
        with self._spans.of_session(*named, _headers(context)) as span:
            try:
                yield sums
            finally:
                span.set(sums.attributes())

    async def _answer(
        self,
        message: OpenSession,
        requests: Requests,
        context: Context,
        audit: SessionAudit,
        sums: SessionSums,
    ) -> None:
        mail = SessionMail()
        sink = audit.counting(_sink_into(mail))
        session = self._engine.open(message, sink, CALLER.get().tenant, MAX_UNREAD_COMMITS)
        audit.session_id = session.session_id
        log.event(
            _logger,
            "session_opened",
            session=session.session_id,
            peer=context.peer(),
            prefix_tokens=len(message.prefix),
        )
        encoder = EventEncoder(len(message.prefix))
        try:
            with self._drain.session(mail):
                await self._write(context, encoder.encode(self._opened(session, message)))
                responses = on_ticks(_encoded(mail, encoder, sums, session), message.pad_ms)
                await self._converse(requests, context, session, mail, responses)
        finally:
            session.cancel()
            log.event(_logger, "session_closed", session=session.session_id)

    def _opened(self, session: EngineSession, message: OpenSession) -> Opened:
        limits = self._engine.info.limits
        return Opened(
            session.session_id,
            limits,
            message.acceptance.mode,
            answers_pings=True,
            pad_ms=message.pad_ms,
        )

    async def _read_open(self, requests: Requests) -> OpenSession:
        assembler = OpenAssembler(self._engine.info.check_prompt_length)
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                async for request in requests:
                    message = assembler.feed(request)
                    if message is not None:
                        return message
        except TimeoutError:
            raise UnavailableError(
                f"The session was not opened within {OPEN_TIMEOUT_S:.0f} s; "
                "send 'open' and the whole prefix at once."
            ) from None
        raise ProtocolViolationError("The stream ended before the session was opened.")

    async def _converse(
        self,
        requests: Requests,
        context: Context,
        session: EngineSession,
        mail: SessionMail,
        responses: Responses,
    ) -> None:
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(
                    self._read(requests, session, mail), name=f"read-{session.session_id}"
                )
                async for response in responses:
                    await self._write(context, response)
                await asyncio.wait([reader], timeout=LINGER_S)
                reader.cancel()
        if mail.error is not None:
            raise mail.error

    async def _write(self, context: Context, response: pb.SessionResponse) -> None:
        """Write a message; waits while the edge does not read, up to a bound."""
        try:
            async with asyncio.timeout(self._slow_reader_s or None):
                await context.write(response)
        except grpc.aio.InternalError:
            raise UnavailableError("The edge has gone while something was written.") from None
        except TimeoutError:
            raise SlowReaderError(
                f"The edge has read nothing for {self._slow_reader_s:g} s "
                "(verifier.slow_reader_s) while commits waited for it; read the stream as it "
                "comes, and open a new session to go on."
            ) from None

    async def _read(self, requests: Requests, session: EngineSession, mail: SessionMail) -> None:
        """Read what the edge sends, to the end, also after a message that no correct edge sends."""
        try:
            await self._read_drafts(requests, session, mail)
        except OutriderError as error:
            session.cancel()
            mail.put(error)
            async for _ in requests:
                pass  # the edge has yet to hear of it

    async def _read_drafts(
        self, requests: Requests, session: EngineSession, mail: SessionMail
    ) -> None:
        """Hand on what arrives; the end of the stream only means that no more drafts come."""
        nodes = NodeDecoder()
        async for request in requests:
            match request.WhichOneof("message"):
                case "extend":
                    extend = nodes.decode(request.extend)
                    refuse_unknown_tokens(extend, self._engine.info)
                    session.extend(extend.nodes)
                case "cancel":
                    session.cancel()
                case "ping":
                    mail.answer_ping()
                case "open" | "prefix_part" as kind:
                    raise ProtocolViolationError(
                        f"Got a message '{kind}' in a session that is open already; "
                        "use one stream for each session."
                    )
                case _:
                    pass  # of a later version
        session.end_drafts()


async def _encoded(
    mail: SessionMail, encoder: EventEncoder, sums: SessionSums, session: EngineSession
) -> Responses:
    async for event in mail.events():
        sums.add(event)
        yield encoder.encode(event)
        if isinstance(event, Commit):
            session.taken()  # now that the next one is wanted


def _sink_into(mail: SessionMail) -> Sink:
    """A sink that may be called from the engine's thread, also when the loop has ended."""
    loop = asyncio.get_running_loop()

    def sink(event: EngineEvent) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(mail.put, event)

    return sink


def _most_tokens(message: OpenSession, info: ModelInfo) -> int:
    """How many tokens a session may come to hold."""
    return min(message.num_prompt_tokens + message.max_tokens, info.max_positions)


def _headers(context: Context) -> dict[str, str]:
    """What the edge's stream came with, as far as it is text."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}
