"""A session that hands everything on to another one; a wrapper overrides what it does otherwise."""

from collections.abc import Sequence

from outrider_common.messages import ServerEvent
from outrider_common.tree import DraftNode
from outrider_edge.estimators import Estimators
from outrider_edge.link import SessionLink


class WrappedSession:
    """See `SessionLink`.

    Args:
        stream: to which everything goes.
    """

    def __init__(self, stream: SessionLink) -> None:
        self._stream = stream

    @property
    def estimators(self) -> Estimators | None:
        """As of the stream."""
        return self._stream.estimators

    @property
    def bytes_up(self) -> int:
        """As of the stream."""
        return self._stream.bytes_up

    @property
    def bytes_down(self) -> int:
        """As of the stream."""
        return self._stream.bytes_down

    async def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Send draft nodes."""
        await self._stream.extend(nodes)

    async def cancel(self) -> None:
        """Tell the verifier that no more tokens are wanted."""
        await self._stream.cancel()

    async def ping(self) -> None:
        """Ask whether the verifier is there."""
        await self._stream.ping()

    async def receive(self) -> ServerEvent | None:
        """The verifier's next event."""
        return await self._stream.receive()

    def close(self) -> None:
        """Give the stream up, whatever state it is in."""
        self._stream.close()

    def give_up(self) -> None:
        """Close it because nothing comes any more."""
        self._stream.give_up()
