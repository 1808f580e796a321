"""Responses on a beat: one on each tick, all of one size, in their order, whenever they come."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from outrider.v1 import verifier_pb2 as pb
from outrider_cloud.padded_responses import on_ticks
from outrider_common.errors import UnavailableError
from outrider_common.padding import PADDED_BYTES

TICK_MS = 5


def commit(token: int) -> pb.SessionResponse:
    return pb.SessionResponse(commit=pb.Commit(tokens=[token] * token))


async def coming(*pauses_s: float) -> AsyncIterator[pb.SessionResponse]:
    for i, pause_s in enumerate(pauses_s):
        await asyncio.sleep(pause_s)
        yield commit(i + 1)


async def test_what_comes_fast_and_what_comes_slowly_looks_the_same() -> None:
    for pauses in ((0.0,) * 10, (0.03, 0.0, 0.0, 0.02)):
        seen = [response async for response in on_ticks(coming(*pauses), TICK_MS)]
        assert {response.ByteSize() for response in seen} == {PADDED_BYTES}
        said = [response for response in seen if response.HasField("commit")]
        assert [len(one.commit.tokens) for one in said] == list(range(1, len(pauses) + 1))
        if sum(pauses):
            assert len(said) < len(seen)  # there were ticks with nothing to say


async def test_no_tick_carries_two() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    times = [loop.time() - began async for _ in on_ticks(coming(*(0.0,) * 20), TICK_MS)]
    assert len(times) >= 20
    assert times[-1] >= 20 * TICK_MS / 1000 - 1e-3  # twenty ticks take so long at least


async def test_without_ticks_responses_are_as_they_are() -> None:
    seen = [response async for response in on_ticks(coming(0.0, 0.0), 0)]
    assert seen == [commit(1), commit(2)]


async def test_an_error_comes_out_after_what_came_before_it() -> None:
    async def failing() -> AsyncIterator[pb.SessionResponse]:
        yield commit(1)
        raise UnavailableError("The verifier is shutting down.")

    seen: list[pb.SessionResponse] = []

    async def listen() -> None:
        async for response in on_ticks(failing(), TICK_MS):
            seen.append(response)  # noqa: PERF401 (what came before the error is looked at)

    with pytest.raises(UnavailableError, match="shutting down"):
        await listen()
    assert [response.HasField("commit") for response in seen].count(True) == 1


async def test_who_stops_listening_leaves_no_task_behind() -> None:
    source = on_ticks(coming(0.0, 60.0), TICK_MS)
    await anext(source)
    await source.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
