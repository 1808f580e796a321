"""The edge's gRPC rim against a scripted server on the real stack."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import (
    VerifierServiceServicer,
    add_VerifierServiceServicer_to_server,
)
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    CapacityError,
    DrainingError,
    InvalidPromptError,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
)
from outrider_common.messages import Commit, Opened, OpenSession, Pong
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.grpc_link import FRAMING_BYTES_PER_MESSAGE, GrpcLink

Script = Callable[[AsyncIterator[pb.SessionRequest], Any], Awaitable[None]]
OPEN = OpenSession((1, 2, 3), 3, 10, SamplingParams(), "v1:fake")


class Scripted(VerifierServiceServicer):
    """Does in a session what the test says."""

    script: Script
    received: list[pb.SessionRequest]

    async def GetModelInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        await context.abort(
            grpc.StatusCode.NOT_FOUND,
            "No such prompt.",
            trailing_metadata=((REASON_METADATA_KEY, InvalidPromptError.reason),),
        )

    async def Session(self, requests: Any, context: Any) -> None:  # noqa: N802
        await self.script(requests, context)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Scripted, str, grpc.aio.Server]]:
    running = grpc.aio.server()
    servicer = Scripted()
    add_VerifierServiceServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    yield servicer, f"127.0.0.1:{port}", running
    await running.stop(None)


async def an_opened(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
    await anext(requests)
    await context.write(pb.SessionResponse(opened=pb.Opened(session_id="s")))


async def test_bytes_that_are_no_message_are_named_as_such() -> None:
    async def session(requests: AsyncIterator[Any], context: Any) -> None:
        await anext(requests)
        await context.write(b"\xff\xff")

    running = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(session)
    running.add_registered_method_handlers("outrider.v1.VerifierService", {"Session": handler})
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with GrpcLink(f"127.0.0.1:{port}") as link:
        with pytest.raises(ProtocolViolationError, match="cannot be read"):
            await (await link.open(OPEN, 4096)).receive()
    await running.stop(None)


async def test_messages_and_their_bytes_go_both_ways(server: Any) -> None:
    servicer, address, _ = server
    received: list[pb.SessionRequest] = []

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        await an_opened(requests, context)
        received.append(await anext(requests))
        await context.write(pb.SessionResponse(commit=pb.Commit(tokens=[7])))

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        assert isinstance(await session.receive(), Opened)
        await session.extend([DraftNode(1, 7, AtPosition(2)), DraftNode(2, 8, AtNode(1))])
        assert await session.receive() == Commit(3, (7,), 0, num_rows=1)
        assert await session.receive() is None
        assert list(received[0].extend.tokens) == [7, 8]
        assert session.bytes_up > received[0].ByteSize() + 2 * FRAMING_BYTES_PER_MESSAGE
        assert session.bytes_down > 2 * FRAMING_BYTES_PER_MESSAGE


async def test_an_error_of_the_verifier_comes_out_as_the_same_error(server: Any) -> None:
    servicer, address, _ = server

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        await anext(requests)
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "All sessions are taken.",
            trailing_metadata=(
                (REASON_METADATA_KEY, CapacityError.reason),
                (RETRY_METADATA_KEY, "1500"),
            ),
        )

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        with pytest.raises(CapacityError, match="All sessions are taken") as caught:
            await session.receive()
        assert caught.value.retry_after_s == 1.5
        with pytest.raises(InvalidPromptError, match="No such prompt"):
            await link.model_info()


async def test_an_error_of_a_later_version_is_still_an_error(server: Any) -> None:
    servicer, address, _ = server

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        metadata = ((REASON_METADATA_KEY, "FROM_THE_FUTURE"),)
        await context.abort(grpc.StatusCode.ABORTED, "Later.", trailing_metadata=metadata)

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        with pytest.raises(OutriderError, match=r"Later\."):
            await session.receive()


async def test_a_verifier_that_goes_away_in_the_middle_is_unavailable(server: Any) -> None:
    servicer, address, running = server

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        await an_opened(requests, context)
        await asyncio.sleep(60)

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        assert isinstance(await session.receive(), Opened)
        await running.stop(None)
        with pytest.raises(UnavailableError, match="in the middle of the answer"):
            await session.receive()
        await session.extend([DraftNode(1, 7, AtPosition(2))])  # lost, without an error


async def test_an_address_where_nobody_listens_is_named() -> None:
    async with GrpcLink("127.0.0.1:1", connect_timeout_s=2) as link:
        with pytest.raises(UnavailableError, match=r"No verifier answers at 127\.0\.0\.1:1"):
            await link.model_info()
        session = await link.open(OPEN, 4096)
        with pytest.raises(UnavailableError, match="No verifier answers"):
            await session.receive()


async def test_a_server_that_is_no_verifier_is_named(server: Any) -> None:
    running = grpc.aio.server()
    port = running.add_insecure_port("127.0.0.1:0")
    await running.start()
    async with GrpcLink(f"127.0.0.1:{port}") as link:
        with pytest.raises(UnavailableError, match=str(port)):
            await link.model_info()
    await running.stop(None)


async def test_an_error_that_comes_as_a_message_is_that_error(server: Any) -> None:
    servicer, address, _ = server
    has_closed = asyncio.Event()

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        await an_opened(requests, context)
        failure = pb.Failure(reason="DRAINING", message="It ends.", retry_after_ms=1500)
        await context.write(pb.SessionResponse(failure=failure))
        async for _ in requests:
            pass
        has_closed.set()

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        assert isinstance(await session.receive(), Opened)
        with pytest.raises(DrainingError, match=r"It ends\.") as caught:
            await session.receive()
        assert caught.value.retry_after_s == 1.5
        await asyncio.wait_for(has_closed.wait(), 10)  # the edge has closed its side


async def test_pings_travel_and_are_answered(server: Any) -> None:
    servicer, address, _ = server

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        await an_opened(requests, context)
        assert (await anext(requests)).WhichOneof("message") == "ping"
        await context.write(pb.SessionResponse(pong=pb.Pong()))

    servicer.script = script
    async with GrpcLink(address) as link:
        session = await link.open(OPEN, 4096)
        assert isinstance(await session.receive(), Opened)
        await session.ping()
        assert await session.receive() == Pong()


async def test_after_a_silent_session_others_go_over_a_new_connection(server: Any) -> None:
    servicer, address, _ = server
    peers: list[str] = []

    async def script(requests: AsyncIterator[pb.SessionRequest], context: Any) -> None:
        peers.append(context.peer())
        await an_opened(requests, context)
        await asyncio.sleep(3600)

    servicer.script = script
    async with GrpcLink(address) as link:
        sessions = [await link.open(OPEN, 4096) for _ in range(3)]
        for session in sessions:
            assert isinstance(await session.receive(), Opened)
        later = []
        for session in sessions[:2]:
            session.give_up()  # one connection was silent, not two
            later.append(await link.open(OPEN, 4096))
            assert isinstance(await later[-1].receive(), Opened)
        assert len(set(peers[:3])) == len(set(peers[3:])) == 1
        assert peers[0] != peers[3]
        for session in (*sessions, *later):
            session.close()


async def test_a_verifier_that_takes_a_connection_and_nothing_else_is_not_waited_for() -> None:
    held: list[asyncio.StreamWriter] = []
    mute = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    port = mute.sockets[0].getsockname()[1]
    async with GrpcLink(f"127.0.0.1:{port}", connect_timeout_s=0.2) as link:
        with pytest.raises(UnavailableError, match=r"took no session within 0\.2 s"):
            await link.open(OPEN, 4096)
    for writer in held:
        writer.close()
    mute.close()
