"""The channel to one verifier, and another one where nothing comes over it any more.

gRPC itself notices a silent connection only after its keepalive time. The old channel is closed
when its last call is over. Knows nothing of messages.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from outrider.v1.verifier_pb2_grpc import VerifierServiceStub

Options = Sequence[tuple[str, Any]]


@dataclass(slots=True, eq=False)
class _Line:
    """A channel, and how many calls it has."""

    channel: grpc.aio.Channel
    stub: Any
    num_calls: int = 0


class VerifierChannel:
    """A channel that can be renewed.

    Args:
        address: host:port.
        options: of gRPC. Channels must not share connections (`grpc.use_local_subchannel_pool`).
    """

    def __init__(self, address: str, options: Options) -> None:
        self._address = address
        self._options = tuple(options)
        self._newest = self._connect()
        self._lines = {self._newest}
        self._closing: set[asyncio.Task[None]] = set()
        self.number = 0
        """How often it was renewed."""

    def call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Begin a call, by the name that the method has on the wire."""
        line = self._newest
        call = getattr(line.stub, method)(*arguments, **options)
        line.num_calls += 1
        call.add_done_callback(lambda _call: self._hang_up(line))
        return call

    def renew(self, number: int) -> None:
        """Let calls that begin from now on go over a new connection.

        Args:
            number: what `number` was when the call that was in vain began; nothing is done if the
                channel has been renewed since.
        """
        if number != self.number:
            return
        self.number += 1
        old, self._newest = self._newest, self._connect()
        self._lines.add(self._newest)
        self._close_if_idle(old)

    async def close(self) -> None:
        """Close everything; calls that are not over are cancelled."""
        for line in self._lines:
            await line.channel.close(None)
        await asyncio.gather(*self._closing)

    def _connect(self) -> _Line:
        channel = grpc.aio.insecure_channel(self._address, options=self._options)
        return _Line(channel, VerifierServiceStub(channel))  # type: ignore[no-untyped-call]

    def _hang_up(self, line: _Line) -> None:
        line.num_calls -= 1
        self._close_if_idle(line)

    def _close_if_idle(self, line: _Line) -> None:
        """Close a channel that is not the newest when it has no calls any more."""
        if line is self._newest or line.num_calls or line not in self._lines:
            return
        self._lines.discard(line)
        task = asyncio.get_running_loop().create_task(line.channel.close(None), name="close-old")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
