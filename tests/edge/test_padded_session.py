"""A padded session: one message of one size on each tick, whatever there is to say."""

import asyncio
from collections.abc import Sequence

import pytest

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import MismatchError
from outrider_common.messages import Commit, FinishReason, Limits, Opened, ServerEvent
from outrider_common.padding import PADDED_BYTES
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.padded_session import MAX_NODES, PaddedSession

PAD_MS = 5
LIMITS = Limits(4096, 256, 64, 4)
END = Commit(4, (), 0, finish_reason=FinishReason.LENGTH)


class FakeStream:
    """Keeps what is sent, and says what it is told to."""

    bytes_up = 1
    bytes_down = 2

    def __init__(self, *events: ServerEvent) -> None:
        self.sent: list[pb.SessionRequest] = []
        self.events = list(events)
        self.is_closed = False

    async def send(self, request: pb.SessionRequest) -> None:
        self.sent.append(request)

    async def receive(self) -> ServerEvent | None:
        return self.events.pop(0) if self.events else None

    def close(self) -> None:
        self.is_closed = True

    async def wait_for(self, count: int) -> None:
        for _ in range(10_000):
            if len(self.sent) >= count:
                return
            await asyncio.sleep(PAD_MS / 1000)
        raise AssertionError("nothing is sent")

    @property
    def tokens(self) -> list[int]:
        return [token for request in self.sent for token in request.extend.tokens]


async def opened(stream: FakeStream) -> PaddedSession:
    session = PaddedSession(stream, PAD_MS)
    assert isinstance(await session.receive(), Opened)
    return session


def chain(count: int) -> Sequence[DraftNode]:
    return [DraftNode(i + 1, 40_000 + i, AtNode(i) if i else AtPosition(3)) for i in range(count)]


async def test_a_session_with_nothing_to_say_sends_all_the_same() -> None:
    stream = FakeStream(Opened("s", LIMITS, pad_ms=PAD_MS))
    session = await opened(stream)
    await stream.wait_for(4)
    assert {request.ByteSize() for request in stream.sent} == {PADDED_BYTES}
    assert stream.tokens == []
    session.close()
    assert stream.is_closed


async def test_nodes_wait_for_their_tick_and_all_arrive_in_their_order() -> None:
    stream = FakeStream(Opened("s", LIMITS, pad_ms=PAD_MS))
    session = await opened(stream)
    nodes = chain(3 * MAX_NODES + 1)
    await session.extend(nodes[:5])
    await session.extend(nodes[5:])
    assert stream.sent == []
    await stream.wait_for(6)
    assert stream.tokens == [node.token for node in nodes]
    assert max(len(request.extend.tokens) for request in stream.sent) == MAX_NODES
    assert {request.ByteSize() for request in stream.sent} == {PADDED_BYTES}
    session.close()


async def test_a_cancellation_is_said_before_nodes_that_wait() -> None:
    stream = FakeStream(Opened("s", LIMITS, pad_ms=PAD_MS))
    session = await opened(stream)
    await session.extend(chain(3))
    await session.cancel()
    await stream.wait_for(3)
    assert [request.HasField("cancel") for request in stream.sent[:3]] == [True, False, False]
    assert stream.tokens == []
    session.close()


@pytest.mark.parametrize("last", [END, None])
async def test_after_the_last_commit_nothing_is_sent(last: ServerEvent | None) -> None:
    events = [Opened("s", LIMITS, pad_ms=PAD_MS), *([last] if last else [])]
    stream = FakeStream(*events)
    session = await opened(stream)
    await stream.wait_for(1)
    assert await session.receive() == last
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert (session.bytes_up, session.bytes_down) == (1, 2)


async def test_a_verifier_that_does_not_pad_is_refused() -> None:
    session = PaddedSession(FakeStream(Opened("s", LIMITS)), PAD_MS)
    with pytest.raises(MismatchError, match=r"edge\.pad_ms"):
        await session.receive()
