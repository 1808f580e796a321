"""Who gets a place when there are more sessions than places, through the engine and over gRPC."""

import asyncio
import threading
from collections import Counter
from typing import Any, Final

import grpc
import pytest
from fake_engine import an_engine, an_open
from fake_target import greedy_text
from hypothesis import given, settings
from hypothesis import strategies as st
from test_service import HOST, answer

from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.server import running_server
from outrider_cloud.session import VerifierSession
from outrider_cloud.session_book import SessionBook
from outrider_common.errors import RETRY_METADATA_KEY, CapacityError
from outrider_common.messages import Commit, OpenSession
from outrider_common.sampling import SamplingParams

NUM_RUNNING: Final = 16
NUM_WAITING: Final = 32
NUM_PLACES: Final = NUM_RUNNING + NUM_WAITING
NUM_OPENS: Final = 200
NUM_TOKENS: Final = 3
MESSAGE: Final = OpenSession((1, 2, 3), 3, NUM_TOKENS, SamplingParams(), "v1:fake", ignore_eos=True)


def an_engine_of(
    num_running: int = NUM_RUNNING,
    num_waiting: int = NUM_WAITING,
    gate: threading.Event | None = None,
) -> BatchingEngine:
    """An engine with so many."""
    return an_engine(gate, num_running=num_running, max_waiting_sessions=num_waiting)


class Crowd:
    """Sessions of several tenants, and what has become of them."""

    def __init__(self, engine: BatchingEngine) -> None:
        self._engine = engine
        self.events: list[tuple[str, list[EngineEvent]]] = []
        self.sessions: list[VerifierSession] = []

    def open(self, tenant: str, count: int = 1) -> int:
        """So many more; how many were refused at once."""
        num_refused = 0
        for _ in range(count):
            events: list[EngineEvent] = []
            try:
                session = self._engine.open(MESSAGE, events.append, tenant)
            except CapacityError:
                num_refused += 1
            else:
                self.events.append((tenant, events))
                self.sessions.append(session)
        return num_refused

    def places(self) -> Counter[str]:
        """Those that have a place, by tenant, as long as none has ended."""
        return Counter(one.tenant for one in self.sessions if one.turned_away is None)

    def num_pushed_out(self, tenant: str) -> int:
        """Of those that had a place, how many lost it."""
        return sum(
            isinstance(e[-1], CapacityError) for name, e in self.events if name == tenant and e
        )

    def num_finished(self, tenant: str) -> int:
        return sum(
            isinstance(e[-1], Commit) and e[-1].finish_reason is not None
            for name, e in self.events
            if name == tenant and e
        )

    def num_started(self, tenant: str) -> int:
        return sum(bool(e) for name, e in self.events if name == tenant)


async def test_of_a_burst_as_many_as_there_are_places_get_one_and_all_others_hear_at_once() -> None:
    gate = threading.Event()
    engine = an_engine_of(gate=gate)
    engine.start()
    try:
        async with (
            running_server(engine, HOST, 0) as port,
            grpc.aio.insecure_channel(f"{HOST}:{port}") as channel,
        ):
            await burst(VerifierServiceStub(channel), engine, gate)
    finally:
        gate.set()
        engine.stop()


async def burst(stub: Any, engine: BatchingEngine, gate: threading.Event) -> None:
    async def one() -> Any:
        """An open session, or why there is none."""
        call = stub.Session()
        await call.write(an_open(max_tokens=NUM_TOKENS))
        try:
            assert (await call.read()).WhichOneof("message") == "opened"
        except grpc.aio.AioRpcError as error:
            return error
        return call

    async with asyncio.timeout(60):
        results = await asyncio.gather(*(one() for _ in range(NUM_OPENS)))
    refused = [one for one in results if isinstance(one, grpc.aio.AioRpcError)]
    assert len(refused) == NUM_OPENS - NUM_PLACES
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    hints = [int(dict(error.trailing_metadata() or ())[RETRY_METADATA_KEY]) for error in refused]
    assert all(500 <= hint <= 30_000 for hint in hints)
    assert engine.counters.num_passes == 0  # no pass had ended when the last one heard
    gate.set()
    calls = [one for one in results if not isinstance(one, grpc.aio.AioRpcError)]
    texts = await asyncio.gather(*(answer(call) for call in calls))
    assert texts == [greedy_text([1, 2, 3], NUM_TOKENS, stop=())] * NUM_PLACES


def test_a_tenant_that_comes_late_gets_places_from_one_that_has_taken_all() -> None:
    engine = an_engine_of()
    crowd = Crowd(engine)
    assert crowd.open("greedy", NUM_OPENS) == NUM_OPENS - NUM_PLACES
    engine.step()
    assert crowd.open("late", 10) == 0
    while engine.step():
        pass
    assert crowd.num_finished("late") == 10
    assert crowd.num_pushed_out("greedy") == 10
    assert crowd.num_finished("greedy") == NUM_PLACES - 10
    assert engine.num_sessions == 0


def test_nobody_who_has_begun_to_run_loses_the_place() -> None:
    engine = an_engine_of(num_running=4, num_waiting=0)
    crowd = Crowd(engine)
    crowd.open("greedy", 4)
    engine.step()
    assert crowd.open("late") == 1
    while engine.step():
        pass
    assert crowd.num_finished("greedy") == 4


def test_a_short_queue_does_not_wait_for_a_long_one_that_was_there_before() -> None:
    engine = an_engine_of(num_running=2)
    crowd = Crowd(engine)
    crowd.open("long", 30)
    crowd.open("short", 4)
    while crowd.num_finished("short") < 4:
        assert engine.step()
    assert crowd.num_started("long") <= 4 + 2 + 2  # one for one, and those that were there first


@settings(deadline=None)
@given(st.lists(st.sampled_from("aaabc"), max_size=60), st.integers(1, 4), st.integers(0, 8))
def test_for_any_order_whoever_is_refused_has_no_less_than_others_that_wait(
    tenants: list[str], num_running: int, num_waiting: int
) -> None:
    engine = an_engine_of(num_running, num_waiting)
    crowd = Crowd(engine)
    for tenant in tenants:
        places = crowd.places()
        is_full = places.total() == num_running + num_waiting
        is_refused = bool(crowd.open(tenant))
        assert is_refused == (is_full and places[tenant] + 1 >= max(places.values()))
        assert crowd.places().total() <= num_running + num_waiting
    places = crowd.places()
    while engine.step():
        pass
    assert {name: crowd.num_finished(name) for name in "abc"} == {
        name: places[name] for name in "abc"
    }


def test_no_pass_looks_at_the_sessions_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be thousands; what a pass costs should not depend on them."""
    engine = an_engine_of(num_running=2)
    crowd = Crowd(engine)
    crowd.open("a", 20)
    monkeypatch.setattr(SessionBook, "waiting", property(lambda _book: pytest.fail("looked")))
    engine.step()
    crowd.sessions[10].cancel()
    engine.step()
    assert engine.holdings.num_waiting == 17


def test_a_session_that_is_cancelled_often_ends_once() -> None:
    engine = an_engine_of(num_running=1)
    crowd = Crowd(engine)
    crowd.open("a", 3)
    for session in crowd.sessions[1:]:
        session.cancel()
        session.cancel()
    engine.step()
    crowd.sessions[1].cancel()
    engine.step()
    assert [len(events) for _, events in crowd.events[1:]] == [1, 1]
    assert engine.num_sessions == 1
