"""Payloads: messages of the protocol in protobuf's JSON form.

Pure. Whatever comes is read or refused with a sentence; unknown fields are ignored.
"""

from typing import Final, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import InvalidInputError, OutriderError

MAX_PAYLOAD_BYTES: Final = 1 << 20
_MAX_DEPTH: Final = 16
_SHOWN_CHARACTERS: Final = 200

_M = TypeVar("_M", bound=Message)


class PayloadError(InvalidInputError):
    """A payload that is not the message that it should be."""

    reason = "INVALID_PAYLOAD"


def encoded(message: Message) -> bytes:
    """A message as payload."""
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False).encode()


def decoded(payload: bytes, kind: type[_M]) -> _M:
    """A payload as a message of this kind.

    Raises:
        PayloadError: it is none; the sentence says why.
    """
    name = kind.DESCRIPTOR.name
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise PayloadError(
            f"The {name} has {len(payload)} bytes; send at most {MAX_PAYLOAD_BYTES}."
        )
    try:
        text = payload.decode("utf-8")
        if not text.lstrip().startswith("{"):  # an empty list would pass for an empty message
            raise ValueError("it is no JSON object")
        return json_format.Parse(
            text,
            kind(),
            ignore_unknown_fields=True,
            max_recursion_depth=_MAX_DEPTH,
        )
    except Exception as error:  # the library lets many kinds out; none shall end an agent
        raise PayloadError(
            f"The payload is no {name} in protobuf's JSON form ({_short(error)}); see "
            "docs/fleet.md for one that is."
        ) from None


def fleet_error(error: Exception) -> pb.FleetError:
    """An error in a payload."""
    if isinstance(error, OutriderError):
        return pb.FleetError(reason=error.reason, message=str(error))
    return pb.FleetError(
        reason="INTERNAL", message="The device has failed at this; its log says more."
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable.rstrip(".")[:_SHOWN_CHARACTERS]
