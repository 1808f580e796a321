"""A session that sends one message of one size on a fixed beat, whatever there is to say.

What is to be sent waits for its tick. Knows nothing of what nodes are worth, and nothing of gRPC.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import MismatchError
from outrider_common.messages import Commit, Opened, ServerEvent
from outrider_common.padding import padded
from outrider_common.tree import DraftNode
from outrider_common.wire import encode_cancel, encode_ping
from outrider_common.wire_nodes import NodeEncoder
from outrider_edge.link import SessionLink
from outrider_edge.wrapped_session import WrappedSession

MAX_NODES: Final = 16
"""So many nodes travel with a tick; they fit into one padded message in most cases."""


class _Stream(SessionLink, Protocol):
    """A session that takes messages as they are."""

    async def send(self, request: pb.SessionRequest) -> None:
        """Send one message."""
        ...


class PaddedSession(WrappedSession):
    """One session's stream, padded.

    Args:
        stream: on which the session has been asked for.
        pad_ms: from tick to tick.
    """

    def __init__(self, stream: _Stream, pad_ms: int) -> None:
        super().__init__(stream)
        self._sender = stream
        self._pad_ms = pad_ms
        self._encoder = NodeEncoder()
        self._nodes: deque[DraftNode] = deque()
        self._requests: deque[pb.SessionRequest] = deque()
        self._ticking: asyncio.Task[None] | None = None

    async def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Send draft nodes with the next ticks."""
        self._nodes.extend(nodes)

    async def cancel(self) -> None:
        """Tell the verifier, with the next tick, that no more tokens are wanted."""
        self._nodes.clear()
        self._requests.append(encode_cancel())

    async def ping(self) -> None:
        """Ask, with the next tick, whether the verifier is there."""
        self._requests.append(encode_ping())

    async def receive(self) -> ServerEvent | None:
        """The verifier's next event; see `SessionLink.receive`.

        Raises:
            MismatchError: the verifier cannot pad.
        """
        event = await super().receive()
        if isinstance(event, Opened):
            self._refuse_unpadded(event)
            self._ticking = asyncio.create_task(self._tick(), name="padded-session")
        elif event is None or (isinstance(event, Commit) and event.finish_reason is not None):
            self._stop()
        return event

    def close(self) -> None:
        """Give the stream up, whatever state it is in."""
        self._stop()
        super().close()

    def give_up(self) -> None:
        """Close it because nothing comes any more; see `SessionLink.give_up`."""
        self._stop()
        super().give_up()

    async def _tick(self) -> None:
        loop, tick_s = asyncio.get_running_loop(), self._pad_ms / 1000
        due = loop.time()
        while True:
            due = max(due + tick_s, loop.time())
            await asyncio.sleep(due - loop.time())
            await self._sender.send(padded(self._next_request()))

    def _next_request(self) -> pb.SessionRequest:
        """What there is to say, or nothing."""
        if not self._requests and self._nodes:
            count = min(len(self._nodes), MAX_NODES)
            nodes = [self._nodes.popleft() for _ in range(count)]
            self._requests.extend(self._encoder.encode(nodes))
        return self._requests.popleft() if self._requests else pb.SessionRequest()

    def _stop(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()

    def _refuse_unpadded(self, opened: Opened) -> None:
        if opened.pad_ms != self._pad_ms:
            raise MismatchError(
                "The verifier does not pad its messages, so that sizes and times would say what "
                "was guessed right; install this release there, or set edge.pad_ms to 0."
            )
