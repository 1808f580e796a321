"""The gRPC rim of the edge: the way to one verifier over one channel.

Turns values into messages, and statuses into our errors. Decides nothing.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    CapacityError,
    OutriderError,
    UnavailableError,
    error_from_wire,
)
from outrider_common.messages import Commit, ModelInfo, OpenSession, ServerEvent
from outrider_common.spans import trace_headers
from outrider_common.tree import DraftNode
from outrider_common.wire import EventDecoder, decode_model_info, encode_cancel, encode_open
from outrider_common.wire_nodes import NodeEncoder
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
    # A daemon outlives verifiers: gRPC's own two minutes are long when one has come back.
    ("grpc.max_reconnect_backoff_ms", 5_000),
)


class GrpcLink:
    """A channel to one verifier.

    Args:
        address: host:port.
        connect_timeout_s: how long to wait for the first answer.
    """

    def __init__(self, address: str, *, connect_timeout_s: float = 5.0) -> None:
        self._address = address
        self._connect_timeout_s = connect_timeout_s
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        self._stub: Any = VerifierServiceStub(self._channel)  # type: ignore[no-untyped-call]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close(None)

    async def model_info(self) -> ModelInfo:
        """The target and the limits; see `VerifierLink.model_info`."""
        try:
            response = await self._stub.GetModelInfo(
                pb.GetModelInfoRequest(), timeout=self._connect_timeout_s
            )
        except grpc.aio.AioRpcError as error:
            raise _said_by_verifier(error) or _not_reached(error, self._address) from error
        return decode_model_info(response)

    async def open(self, message: OpenSession, max_message_bytes: int) -> "GrpcSession":
        """Begin a session; see `VerifierLink.open`."""
        decoder = EventDecoder(len(message.prefix))
        call = self._stub.Session(metadata=(*affinity_metadata(message), *trace_headers()))
        session = GrpcSession(call, self._address, decoder)
        for request in encode_open(message, max_message_bytes):
            await session.send(request)
        return session


class GrpcSession:
    """One session's stream."""

    def __init__(self, call: Any, address: str, decoder: EventDecoder) -> None:
        self._call = call
        self._address = address
        self._decoder = decoder
        self._encoder = NodeEncoder()
        self._writing = asyncio.Lock()
        self._bytes_up = 0
        self._bytes_down = 0

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
            self._bytes_down += response.ByteSize() + FRAMING_BYTES_PER_MESSAGE
            event = self._decoder.decode(response)
            if isinstance(event, Commit) and event.finish_reason is not None:
                await self._send_no_more()
            if event is not None:
                return event

    def close(self) -> None:
        """Give the stream up, whatever state it is in."""
        self._call.cancel()

    async def _send_no_more(self) -> None:
        """Close our side; the verifier, which has said its last, waits for that."""
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            async with self._writing:
                await self._call.done_writing()

    def _lost(self, error: grpc.aio.AioRpcError) -> UnavailableError:
        if self._bytes_down == 0:
            return _not_reached(error, self._address)
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
    if isinstance(said, CapacityError) and retry_ms.isdecimal():
        said.retry_after_s = int(retry_ms) / 1000
    return said


def _not_reached(error: grpc.aio.AioRpcError, address: str) -> UnavailableError:
    return UnavailableError(
        f"No verifier answers at {address} ({_details(error)}); start one with 'outrider verifier "
        "serve', or say where it is with --verifier HOST:PORT."
    )


def _details(error: grpc.aio.AioRpcError) -> str:
    return (error.details() or error.code().name).rstrip(".")
