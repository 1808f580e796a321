"""Counts what goes one way of an HTTP/2 connection that carries gRPC: which messages, which frames.

Every byte is counted once. Bytes in, sums out; knows nothing of sockets or of what messages mean.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (RFC 9113, section 3.4)."""

FRAME_HEADER_BYTES: Final = 9
MESSAGE_PREFIX_BYTES: Final = 5
"""Of gRPC: a flag, and the length."""

FRAME_NAMES: Final = {
    1: "HEADERS",
    2: "PRIORITY",
    3: "RST_STREAM",
    4: "SETTINGS",
    6: "PING",
    7: "GOAWAY",
    8: "WINDOW_UPDATE",
    9: "CONTINUATION",
}
END_OF_STREAM: Final = "end of stream"
"""A DATA frame without data."""

_DATA: Final = 0


@dataclass(slots=True)
class Count:
    """What was seen of one kind.

    Attributes:
        num: messages, or frames that carry none.
        num_bytes: all their bytes, the headers of frames and the prefixes of messages included.
        message_bytes: of the messages alone.
    """

    num: int = 0
    num_bytes: int = 0
    message_bytes: int = 0

    def __sub__(self, before: "Count") -> "Count":
        """What came since."""
        return Count(
            self.num - before.num,
            self.num_bytes - before.num_bytes,
            self.message_bytes - before.message_bytes,
        )

    def __add__(self, other: "Count") -> "Count":
        """Both together."""
        return Count(
            self.num + other.num,
            self.num_bytes + other.num_bytes,
            self.message_bytes + other.message_bytes,
        )


class FrameCounter:
    """Counts what is fed to it, in pieces of any size.

    A frame's header counts for the message that ends in the frame or goes on behind it.

    Args:
        kind_of: names the kind of a message.
        counts: by kind of message or frame; counted on.
        has_preface: these are a client's bytes.
    """

    def __init__(
        self, kind_of: Callable[[bytes], str], counts: dict[str, Count], *, has_preface: bool
    ) -> None:
        self._kind_of = kind_of
        self._counts = counts
        self._buffer = b""
        self._num_preface_bytes = len(PREFACE) if has_preface else 0
        self._streams: dict[int, _Stream] = {}

    def feed(self, data: bytes) -> None:
        """Count more bytes."""
        self._buffer += data
        if len(self._buffer) < self._num_preface_bytes:
            return
        if self._num_preface_bytes:
            self._count("preface", Count(1, self._num_preface_bytes))
            self._buffer = self._buffer[self._num_preface_bytes :]
            self._num_preface_bytes = 0
        while (frame := self._next_frame()) is not None:
            self._see(*frame)

    def _next_frame(self) -> tuple[int, int, bytes] | None:
        """Type, stream and content of the next whole frame."""
        header = self._buffer[:FRAME_HEADER_BYTES]
        end = FRAME_HEADER_BYTES + int.from_bytes(header[:3], "big")
        if len(header) < FRAME_HEADER_BYTES or len(self._buffer) < end:
            return None
        content, self._buffer = self._buffer[FRAME_HEADER_BYTES:end], self._buffer[end:]
        return header[3], int.from_bytes(header[5:], "big"), content

    def _see(self, kind: int, stream_id: int, content: bytes) -> None:
        if kind != _DATA or not content:
            name = END_OF_STREAM if kind == _DATA else FRAME_NAMES.get(kind, f"frame {kind}")
            self._count(name, Count(1, FRAME_HEADER_BYTES + len(content)))
            return
        stream = self._streams.setdefault(stream_id, _Stream())
        for message, num_bytes in stream.messages(content):
            self._count(self._kind_of(message), Count(1, num_bytes, len(message)))

    def _count(self, name: str, count: Count) -> None:
        self._counts[name] = self._counts.get(name, Count()) + count


class _Stream:
    """Puts the messages of one stream together."""

    def __init__(self) -> None:
        self._data = b""
        self._num_header_bytes = 0  # of frames, not counted yet

    def messages(self, content: bytes) -> Iterator[tuple[bytes, int]]:
        """The messages that a frame completes, each with the bytes that count for it."""
        self._data += content
        self._num_header_bytes += FRAME_HEADER_BYTES
        while len(self._data) >= MESSAGE_PREFIX_BYTES:
            length = int.from_bytes(self._data[1:MESSAGE_PREFIX_BYTES], "big")
            end = MESSAGE_PREFIX_BYTES + length
            if len(self._data) < end:
                return
            message, self._data = self._data[MESSAGE_PREFIX_BYTES:end], self._data[end:]
            yield message, end + self._num_header_bytes
            self._num_header_bytes = 0


def since(now: Mapping[str, Count], before: Mapping[str, Count]) -> dict[str, Count]:
    """What was counted after an earlier moment."""
    return {name: count - before.get(name, Count()) for name, count in now.items()}


def total(counts: Mapping[str, Count]) -> Count:
    """All kinds together."""
    return sum(counts.values(), Count())
