"""The end of a verifier, over the real gRPC stack, with a target in numpy."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import pytest
from fake_engine import an_engine, an_open
from fake_target import greedy_text
from grpc_health.v1 import health_pb2, health_pb2_grpc
from test_service import HOST, answer, opened, refusal, write_on_and_on

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_cloud.drain import Drain
from outrider_cloud.handlers import SERVICE_NAME
from outrider_cloud.server import running_server
from outrider_common.errors import RETRY_METADATA_KEY

FOR_EVER_S = 3600.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Open at first; while a test has closed it, no pass comes to an end."""
    event = threading.Event()
    event.set()
    yield event
    event.set()


class Verifier:
    """One that can be told to end."""

    def __init__(self, gate: threading.Event, grace_s: float) -> None:
        self.drain = Drain(grace_s)
        self.engine = an_engine(gate)
        self.ending = asyncio.Event()
        self.port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self.serve())

    async def serve(self) -> None:
        self.engine.start()
        async with running_server(self.engine, HOST, 0, drain=self.drain) as port:
            self.port.set_result(port)
            await self.ending.wait()
        self.engine.stop()

    async def begin(self) -> None:
        """Tell it, and wait until it has begun to end."""
        self.ending.set()
        await self.drain.begun.wait()


@pytest.fixture
async def lasting(gate: threading.Event) -> AsyncIterator[Verifier]:
    """Its sessions may go on for ever."""
    verifier = Verifier(gate, FOR_EVER_S)
    yield verifier
    gate.set()
    verifier.ending.set()
    await verifier.task


async def stub_of(verifier: Verifier) -> tuple[grpc.aio.Channel, Any]:
    channel = grpc.aio.insecure_channel(f"{HOST}:{await verifier.port}")
    return channel, VerifierServiceStub(channel)  # type: ignore[no-untyped-call]


async def test_sessions_are_told_and_new_ones_refused_with_a_hint(
    lasting: Verifier, gate: threading.Event
) -> None:
    channel, stub = await stub_of(lasting)
    gate.clear()
    call = await opened(stub, max_tokens=190)
    await lasting.begin()
    told = await call.read()
    assert told.WhichOneof("message") == "go_away"
    assert told.go_away.deadline_ms == FOR_EVER_S * 1000
    late = stub.Session()
    await late.write(an_open())
    code, sentence, reason = await refusal(late)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert "about to end" in sentence
    assert int(dict(await late.trailing_metadata())[RETRY_METADATA_KEY]) > 0
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE_NAME):
        response = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.NOT_SERVING
    gate.set()
    assert await answer(call) == greedy_text([1, 2, 3], 190, stop=())
    await channel.close()


async def test_it_ends_as_soon_as_all_sessions_are_gone(
    lasting: Verifier, gate: threading.Event
) -> None:
    channel, stub = await stub_of(lasting)
    gate.clear()
    calls = [await opened(stub, max_tokens=190) for _ in range(3)]
    await lasting.begin()
    for call in calls:
        assert not lasting.task.done()
        call.cancel()  # as an edge does that goes on elsewhere
    gate.set()
    await lasting.task  # long before for ever
    await channel.close()


async def test_sessions_that_are_left_at_the_deadline_end_with_a_hint(
    gate: threading.Event,
) -> None:
    verifier = Verifier(gate, grace_s=0.1)
    channel, stub = await stub_of(verifier)
    gate.clear()
    call = await opened(stub, max_tokens=190)
    writing = asyncio.create_task(write_on_and_on(call))
    verifier.ending.set()
    code, sentence, reason = await refusal(call)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    assert "has ended" in sentence
    gate.set()
    await verifier.task
    await writing
    await channel.close()


async def test_a_second_signal_waits_for_nobody(lasting: Verifier, gate: threading.Event) -> None:
    channel, stub = await stub_of(lasting)
    gate.clear()
    call = await opened(stub, max_tokens=190)
    await lasting.begin()
    lasting.drain.cut_short()
    assert (await refusal(call))[2] == "DRAINING"
    gate.set()
    await lasting.task
    await channel.close()


async def test_a_session_that_is_opened_while_it_begins_to_end_is_refused(
    lasting: Verifier,
) -> None:
    channel, stub = await stub_of(lasting)
    call = stub.Session()
    await call.write(an_open([1] * 5, prefix_length=50, num_prompt_tokens=50))
    await asyncio.sleep(0.1)  # half of the prefix is there
    await lasting.begin()
    await call.write(pb.SessionRequest(prefix_part=pb.PrefixPart(tokens=[1] * 45)))
    assert (await refusal(call))[2] == "DRAINING"
    await channel.close()
