"""The precise event loop is an event loop, and its timers do not wait for whole milliseconds."""

import asyncio
import selectors
import socket
from typing import Any

import pytest

from outrider_bench import precise_loop
from outrider_bench.precise_loop import precise_event_loop


async def test_sockets_wake_it_while_it_waits_for_a_timer() -> None:
    async def exchange() -> bytes:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            loop.call_later(0.001, one.send, b"x")
            async with asyncio.timeout(30):
                return await loop.sock_recv(other, 1)

    def run() -> bytes:
        with asyncio.Runner(loop_factory=precise_event_loop) as runner:
            return runner.run(exchange())

    assert await asyncio.to_thread(run) == b"x"


def test_a_wait_of_a_part_of_a_millisecond_is_not_rounded_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(
        precise_loop.select, "select", lambda *args: waits.append(args[-1]) or ([], [], [])
    )
    with precise_loop.PreciseSelector() as selector:
        assert selector.select(0.0003) == []
        assert selector.select(0) == []
    assert waits == [0.0003]


def test_where_there_is_no_epoll_the_usual_loop_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = object()
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: made)
    assert precise_event_loop() is made
