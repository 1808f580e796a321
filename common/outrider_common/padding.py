"""Messages filled up, so that their sizes say nothing.

Knows nothing of when they are sent.
"""

from typing import Final, TypeVar

from outrider.v1 import verifier_pb2 as pb

PADDED_BYTES: Final = 128
"""Padded messages have this size: about 30 tokens with all that may be said of them. Larger ones
have a multiple of it."""

_Message = TypeVar("_Message", pb.SessionRequest, pb.SessionResponse)


def padded(message: _Message, size: int = PADDED_BYTES) -> _Message:
    """Fill a message up, to the least multiple of a size that it can be made to have.

    Args:
        message: of either side; it is changed.
        size: above 3.
    """
    length = message.ByteSize()
    wanted = -(-length // size) * size
    while (num_bytes := _filling(wanted - length)) is None:
        wanted += size
    message.padding = bytes(num_bytes)
    return message


def _filling(room: int) -> int | None:
    """How many bytes of padding take up a room, with the tag and the length before them.

    None if none do: a length takes a byte more when it reaches 128, 16384, ...
    """
    for num_length_bytes in range(1, 5):
        num_bytes = room - 1 - num_length_bytes
        if num_bytes >= 0 and max(1, -(-num_bytes.bit_length() // 7)) == num_length_bytes:
            return num_bytes
    return None
