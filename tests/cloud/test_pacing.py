"""Messages are read no faster than allowed, all of them, in their order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from outrider_cloud.pacing import paced
from outrider_common.token_bucket import TokenBucket


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


async def test_messages_beyond_the_burst_wait_for_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    pauses = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        pauses.append(seconds)
        now += seconds

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bucket = TokenBucket(10.0, 5.0, lambda: now)
    read = [(number, now) async for number in paced(numbers(25), bucket)]
    assert [number for number, _ in read] == list(range(25))
    assert all(now <= 1e-9 for _, now in read[:6])
    assert read[-1][1] == pytest.approx(1.9)  # 25 messages: 5 at once, the others 10 a second
    assert len(pauses) == 20
