"""The gRPC rim of the edge: the way to one verifier over one channel.

Turns values into messages, and statuses into our errors. Decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self

import grpc

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    error_from_wire,
)
from outrider_common.messages import Commit, Failure, ModelInfo, OpenSession, ServerEvent
from outrider_common.spans import trace_headers
from outrider_common.tree import DraftNode
from outrider_common.wire import (
    EventDecoder,
    decode_model_info,
    encode_cancel,
    encode_open,
    encode_ping,
)
from outrider_common.wire_nodes import NodeEncoder
from outrider_edge.channel import VerifierChannel
from outrider_edge.link import SessionLink
from outrider_edge.link_security import NO_SECURITY, LinkSecurity
from outrider_edge.padded_session import PaddedSession
from outrider_edge.prefix_affinity import affinity_metadata

FRAMING_BYTES_PER_MESSAGE: Final = 5 + 9
"""gRPC's length prefix and the header of an HTTP/2 DATA frame."""

_CHANNEL_OPTIONS: Final = (
    # Not below the server's grpc.http2.min_ping_interval_without_data_ms, or it hangs up.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 1 << 20),
    # Pings that measure the link, for windows larger than messages of a few bytes ever fill.
    ("grpc.http2.bdp_probe", 0),
    # A daemon outlives verifiers: gRPC's own two minutes are long when one has come back. How often
    # a session is tried again is for `resuming` to say, so that the channel need not be patient.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # By its name a pause, but also how long a connection may take to be made, 20 s by itself: one
    # whose other end is gone in the middle of that would hold up all calls for so long. Making one
    # takes three round trips with TLS.
    ("grpc.min_reconnect_backoff_ms", 4_000),
    # Else a second channel would share the silent connection of the first.
    ("grpc.use_local_subchannel_pool", 1),
)


class GrpcLink:
    """A channel to one verifier.

    Args:
        address: host:port.
        connect_timeout_s: how long to wait for the first answer.
        security: what is shown to the verifier, and what it must show.
        pad_ms: sessions send, and want, one message of a fixed size every so many ms; 0: not so.

    Raises:
        ConfigError: a file of `security` cannot be used.
    """

    def __init__(
        self,
        address: str,
        *,
        connect_timeout_s: float = 5.0,
        security: LinkSecurity = NO_SECURITY,
        pad_ms: int = 0,
    ) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._pad_ms = pad_ms
        self._channel = VerifierChannel(address, _CHANNEL_OPTIONS, security)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def has_alternative(self) -> bool:
        """There is one verifier only."""
        return False

    async def close(self) -> None:
        """Close the channel; sessions that are not over break."""
        await self._channel.close()

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        """The target and the limits; see `VerifierLink.model_info`."""
        number = self._channel.number
        try:
            response = await self._channel.call(
                "GetModelInfo",
                pb.GetModelInfoRequest(),
                timeout=timeout_s or self._connect_timeout_s,
            )
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._channel.renew(number)
            raise _said_by_verifier(error) or self._not_reached(error) from error
        return decode_model_info(response)

    async def open(self, message: OpenSession, max_message_bytes: int) -> SessionLink:
        """Begin a session; see `VerifierLink.open`."""
        decoder = EventDecoder(len(message.prefix))
        number = self._channel.number
        headers = (*affinity_metadata(message), *trace_headers())
        call = self._channel.call("Session", metadata=headers)
        session = GrpcSession(
            call,
            self._address,
            decoder,
            on_silence=lambda: self._channel.renew(number),
            not_reached=self._not_reached,
        )
        padded = replace(message, pad_ms=self._pad_ms)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                for request in encode_open(padded, max_message_bytes):
                    await session.send(request)
        except BaseException as error:
            session.give_up() if isinstance(error, TimeoutError) else session.close()
            if not isinstance(error, TimeoutError):
                raise
            raise UnavailableError(
                f"The verifier at {self._address} took no session within "
                f"{self._connect_timeout_s:g} s (edge.connect_timeout_s); try again."
            ) from None
        return PaddedSession(session, self._pad_ms) if self._pad_ms else session

    def _not_reached(self, error: grpc.aio.AioRpcError) -> UnavailableError:
        said = self._channel.explain(error.details() or "")
        return UnavailableError(
            said
            or f"No verifier answers at {self._address} ({_details(error)}); start one with "
            "'outrider verifier serve', or say where it is with --verifier HOST:PORT."
        )


class GrpcSession:
    """One session's stream."""

    def __init__(
        self,
        call: Any,
        address: str,
        decoder: EventDecoder,
        *,
        on_silence: Callable[[], None],
        not_reached: Callable[[grpc.aio.AioRpcError], UnavailableError],
    ) -> None:
        self._call = call
        self._on_silence = on_silence
        self._not_reached = not_reached
        self._address = address
        self._decoder = decoder
        self._encoder = NodeEncoder()
        self._writing = asyncio.Lock()
        self._bytes_up = 0
        self._bytes_down = 0

    @property
    def estimators(self) -> None:
        """The pace of the only verifier is known elsewhere."""
        return

    @property
    def bytes_up(self) -> int:
        """Bytes sent so far, with the framing of each message."""
        return self._bytes_up

    @property
    def bytes_down(self) -> int:
        """Bytes received so far, with the framing of each message."""
        return self._bytes_down

    async def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Send draft nodes."""
        for request in self._encoder.encode(nodes):
            await self.send(request)

    async def cancel(self) -> None:
        """Tell the verifier that no more tokens are wanted."""
        await self.send(encode_cancel())

    async def ping(self) -> None:
        """Ask whether the verifier is there."""
        await self.send(encode_ping())

    async def send(self, request: pb.SessionRequest) -> None:
        """Send one message; what a stream that has ended cannot take is lost.

        Why it ended is for `receive` to say.
        """
        self._bytes_up += request.ByteSize() + FRAMING_BYTES_PER_MESSAGE
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.write(request)

    async def receive(self) -> ServerEvent | None:
        """The verifier's next event; see `SessionLink.receive`."""
        while True:
            try:
                response = await self._call.read()
            except grpc.aio.AioRpcError as error:
                raise _said_by_verifier(error) or self._lost(error) from error
            if response is grpc.aio.EOF:  # type: ignore[attr-defined]
                return None
            if response is None:  # gRPC's word for bytes that are no message
                raise ProtocolViolationError(
                    f"The verifier at {self._address} sent a message that cannot be read; install "
                    "the same release of outrider on both sides."
                )
            self._bytes_down += response.ByteSize() + FRAMING_BYTES_PER_MESSAGE
            event = self._decoder.decode(response)
            if isinstance(event, Failure):
                await self._send_no_more()
                raise event.error
            if isinstance(event, Commit) and event.finish_reason is not None:
                await self._send_no_more()
            if event is not None:
                return event

    def close(self) -> None:
        """Give the stream up, whatever state it is in."""
        self._call.cancel()

    def give_up(self) -> None:
        """Close it because nothing comes, and let other sessions go another way."""
        self.close()
        self._on_silence()

    async def _send_no_more(self) -> None:
        """Close our side; the verifier, which has said its last, waits for that."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.done_writing()

    def _lost(self, error: grpc.aio.AioRpcError) -> UnavailableError:
        if self._bytes_down == 0:
            return self._not_reached(error)
        return UnavailableError(
            f"The verifier at {self._address} went away in the middle of the answer "
            f"({_details(error)}); try again."
        )


def _said_by_verifier(error: grpc.aio.AioRpcError) -> OutriderError | None:
    """The verifier's own error, or None where gRPC itself ended the call."""
    trailing: Any = error.trailing_metadata() or ()
    metadata = dict(trailing)
    if REASON_METADATA_KEY not in metadata:
        return None
    said = error_from_wire(str(metadata[REASON_METADATA_KEY]), error.details() or "")
    retry_ms = str(metadata.get(RETRY_METADATA_KEY, ""))
    if retry_ms.isdecimal():
        said.retry_after_s = int(retry_ms) / 1000
    return said


def _details(error: grpc.aio.AioRpcError) -> str:
    return (error.details() or error.code().name).rstrip(".")
