"""The gRPC rim of the verifier: one session on one stream, over any engine.

Reads and writes messages, hands drafts to the engine and its commits to the edge, and turns our
errors into statuses. Decides nothing about tokens.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceServicer
from outrider_cloud.admission import check_model_name, refuse_unknown_tokens
from outrider_cloud.engine import Engine, EngineEvent, EngineSession, Sink
from outrider_cloud.session_spans import SessionSums, session_span
from outrider_common import log
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    CapacityError,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    ungrouped,
)
from outrider_common.messages import Opened, OpenSession
from outrider_common.spans import NO_SPANS, Spans
from outrider_common.wire import EventEncoder, OpenAssembler, encode_model_info
from outrider_common.wire_nodes import NodeDecoder

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[pb.SessionRequest]
Responses = AsyncIterator[pb.SessionResponse]

OPEN_TIMEOUT_S: Final = 20.0
"""How long an edge may take to send its whole prefix."""


LINGER_S: Final = 5.0
"""How long a stream stays open after its last commit for the edge to close its side first. A write
that meets the end of a stream makes gRPC drop what the edge has not read yet."""


class VerifierServicer(VerifierServiceServicer):
    """`outrider.v1.VerifierService` over an engine."""

    def __init__(self, engine: Engine, spans: Spans = NO_SPANS) -> None:
        self._engine = engine
        self._spans = spans

    async def GetModelInfo(  # noqa: N802  (the name on the wire)
        self, request: pb.GetModelInfoRequest, context: Context
    ) -> pb.GetModelInfoResponse:
        """What a client needs to know of the model before it opens a session."""
        try:
            check_model_name(request.model, self._engine.info)
        except OutriderError as error:
            await _abort(context, error)
        return encode_model_info(self._engine.info)

    async def Session(self, requests: Requests, context: Context) -> None:  # noqa: N802
        """One generation."""
        try:
            await self._serve(requests, context)
        except OutriderError as error:
            await _abort(context, error)

    async def _serve(self, requests: Requests, context: Context) -> None:
        message = await self._read_open(requests)
        named = session_span(message, self._engine.info.model)
        with self._spans.of_session(*named, _headers(context)) as span:
            sums = SessionSums()
            try:
                await self._run(message, requests, context, sums)
            finally:
                span.set(sums.attributes())

    async def _run(
        self, message: OpenSession, requests: Requests, context: Context, sums: SessionSums
    ) -> None:
        events: asyncio.Queue[EngineEvent] = asyncio.Queue()  # at most max_tokens commits
        session = self._engine.open(message, _sink_into(events))
        log.event(
            _logger,
            "session_opened",
            session=session.session_id,
            peer=context.peer(),
            prefix_tokens=len(message.prefix),
        )
        encoder = EventEncoder(len(message.prefix))
        try:
            await context.write(encoder.encode(self._opened(session, message)))
            responses = _encoded(events, encoder, sums)
            await self._converse(requests, context, session, responses)
        finally:
            session.cancel()
            log.event(_logger, "session_closed", session=session.session_id)

    def _opened(self, session: EngineSession, message: OpenSession) -> Opened:
        limits = self._engine.info.limits
        return Opened(session.session_id, limits, message.acceptance.mode)

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
        responses: Responses,
    ) -> None:
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(
                    self._read_drafts(requests, session), name=f"read-{session.session_id}"
                )
                async for response in responses:
                    await context.write(response)
                await asyncio.wait([reader], timeout=LINGER_S)
                reader.cancel()

    async def _read_drafts(self, requests: Requests, session: EngineSession) -> None:
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
                case "open" | "prefix_part" as kind:
                    raise ProtocolViolationError(
                        f"Got a message '{kind}' in a session that is open already; "
                        "use one stream for each session."
                    )
                case _:
                    pass  # of a later version
        session.end_drafts()


async def _encoded(
    events: asyncio.Queue[EngineEvent], encoder: EventEncoder, sums: SessionSums
) -> Responses:
    """Commits as they come, until one ends the session."""
    while True:
        event = await events.get()
        sums.add(event)
        if isinstance(event, OutriderError):
            raise event
        yield encoder.encode(event)
        if event.finish_reason is not None:
            return


def _sink_into(events: asyncio.Queue[EngineEvent]) -> Sink:
    """A sink that may be called from the engine's thread, also when the loop has ended."""
    loop = asyncio.get_running_loop()

    def sink(event: EngineEvent) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return sink


def _headers(context: Context) -> dict[str, str]:
    """What the edge's stream came with, as far as it is text."""
    metadata = context.invocation_metadata() or ()
    return {key: value for key, value in metadata if isinstance(value, str)}


async def _abort(context: Context, error: OutriderError) -> None:
    log.event(
        _logger, "request_refused", level=logging.WARNING, reason=error.reason, why=str(error)
    )
    await context.abort(
        grpc.StatusCode[error.status], str(error), trailing_metadata=tuple(_metadata(error))
    )


def _metadata(error: OutriderError) -> Iterator[tuple[str, str]]:
    yield REASON_METADATA_KEY, error.reason
    if isinstance(error, CapacityError) and error.retry_after_s is not None:
        yield RETRY_METADATA_KEY, str(round(error.retry_after_s * 1000))
