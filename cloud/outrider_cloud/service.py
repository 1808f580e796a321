"""The gRPC rim of the verifier: one session on one stream, over any engine.

Reads and writes messages, hands drafts to the engine and its commits to the edge, and turns our
errors into statuses. Decides nothing about tokens.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, Final

import grpc

from outrider.v1 import verifier_pb2 as pb
from outrider_cloud.admission import check_model_name, refuse_unknown_tokens
from outrider_cloud.drain import Drain
from outrider_cloud.engine import Engine, EngineEvent, EngineSession, Sink
from outrider_cloud.handlers import Unreadable, all_readable, readable
from outrider_cloud.session_mail import SessionMail
from outrider_common import log
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    ungrouped,
)
from outrider_common.messages import Failure, Opened, OpenSession
from outrider_common.wire import EventEncoder, OpenAssembler, encode_model_info
from outrider_common.wire_nodes import NodeDecoder

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Requests = AsyncIterator[pb.SessionRequest]

OPEN_TIMEOUT_S: Final = 20.0
"""How long an edge may take to send its whole prefix."""


LINGER_S: Final = 5.0
"""How long a stream stays open after its last commit, or an error, for the edge to close its side
first. A write that meets the end of a stream makes gRPC drop what the edge has not read yet."""


class VerifierServicer:
    """`outrider.v1.VerifierService` over an engine.

    Args:
        engine: verifies.
        drain: knows when the verifier is about to end.
    """

    def __init__(self, engine: Engine, drain: Drain | None = None) -> None:
        self._engine = engine
        self._drain = drain or Drain()

    async def GetModelInfo(  # noqa: N802  (the name on the wire)
        self, request: pb.GetModelInfoRequest | Unreadable, context: Context
    ) -> pb.GetModelInfoResponse:
        """What a client needs to know of the model before it opens a session."""
        try:
            self._drain.refuse_if_begun()
            check_model_name(readable(request).model, self._engine.info)
        except OutriderError as error:
            await _abort(context, error)
        return encode_model_info(replace(self._engine.info, occupancy=self._engine.occupancy))

    async def Session(self, requests: Requests, context: Context) -> None:  # noqa: N802
        """One generation."""
        try:
            await self._serve(all_readable(requests), context)
        except OutriderError as error:
            await _abort(context, error)

    async def _serve(self, requests: Requests, context: Context) -> None:
        self._drain.refuse_if_begun()
        message = await self._read_open(requests)
        self._drain.refuse_if_begun()  # it may have begun meanwhile
        mail = SessionMail()
        session = self._engine.open(message, _sink_into(mail))
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
                await context.write(encoder.encode(self._opened(session, message)))
                await self._converse(requests, context, session, mail, encoder)
        finally:
            session.cancel()
            log.event(_logger, "session_closed", session=session.session_id)

    def _opened(self, session: EngineSession, message: OpenSession) -> Opened:
        limits = self._engine.info.limits
        return Opened(session.session_id, limits, message.acceptance.mode, answers_pings=True)

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
        encoder: EventEncoder,
    ) -> None:
        failure: OutriderError | None = None
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(
                    self._read(requests, session, mail), name=f"read-{session.session_id}"
                )
                async for event in mail.events():
                    await context.write(encoder.encode(event))
                    failure = event.error if isinstance(event, Failure) else None
                await asyncio.wait([reader], timeout=LINGER_S)
                reader.cancel()
        if failure is not None:
            raise failure

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


def _sink_into(mail: SessionMail) -> Sink:
    """A sink that may be called from the engine's thread, also when the loop has ended."""
    loop = asyncio.get_running_loop()

    def sink(event: EngineEvent) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(mail.put, event)

    return sink


async def _abort(context: Context, error: OutriderError) -> None:
    log.event(
        _logger, "request_refused", level=logging.WARNING, reason=error.reason, why=str(error)
    )
    if context.done():
        return  # nobody is there to be told
    await context.abort(
        grpc.StatusCode[error.status], str(error), trailing_metadata=tuple(_metadata(error))
    )


def _metadata(error: OutriderError) -> Iterator[tuple[str, str]]:
    yield REASON_METADATA_KEY, error.reason
    if error.retry_after_s is not None:
        yield RETRY_METADATA_KEY, str(round(error.retry_after_s * 1000))
