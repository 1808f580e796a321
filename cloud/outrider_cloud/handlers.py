"""The methods of the service on a gRPC server.

Bytes that are no message reach the servicer as `Unreadable`, to be refused like any other bad
message: gRPC itself would answer UNKNOWN with a Python error. Knows nothing of what messages mean.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import ProtocolViolationError

if TYPE_CHECKING:
    from outrider_cloud.service import VerifierServicer

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["VerifierService"].full_name
"""What health checks ask for."""

_Read = TypeVar("_Read", bound=Message)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes that are not the message that was expected.

    Attributes:
        num_bytes: how many came.
        expected: the name of that message.
    """

    num_bytes: int
    expected: str


def add_to_server(servicer: "VerifierServicer", server: grpc.aio.Server) -> None:
    """Offer the methods of a servicer."""
    handlers = {
        "GetModelInfo": grpc.unary_unary_rpc_method_handler(
            servicer.GetModelInfo,
            request_deserializer=reader_of(pb.GetModelInfoRequest),
            response_serializer=pb.GetModelInfoResponse.SerializeToString,
        ),
        "Session": grpc.stream_stream_rpc_method_handler(
            servicer.Session,
            request_deserializer=reader_of(pb.SessionRequest),
            response_serializer=pb.SessionResponse.SerializeToString,
        ),
    }
    server.add_registered_method_handlers(SERVICE_NAME, handlers)  # type: ignore[attr-defined]


def reader_of(kind: type[_Read]) -> Callable[[bytes], _Read | Unreadable]:
    """Reads messages of a kind, and never fails."""

    def read(data: bytes) -> _Read | Unreadable:
        try:
            return kind.FromString(data)
        except DecodeError:
            return Unreadable(len(data), kind.DESCRIPTOR.name)

    return read


def readable(message: _Read | Unreadable) -> _Read:
    """The message.

    Raises:
        ProtocolViolationError: it could not be read.
    """
    if isinstance(message, Unreadable):
        raise ProtocolViolationError(
            f"A message of {message.num_bytes} bytes cannot be read as a {message.expected}; "
            "install the same release of outrider on both sides."
        )
    return message


async def all_readable(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The messages of a stream, until one cannot be read; raises as `readable` does."""
    async for message in messages:
        yield readable(message)
