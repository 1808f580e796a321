"""The edge daemon over two verifiers with the real model, one of which is killed in mid-answer."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from daemons import RunningDaemon, running_daemon
from openai import APIError, AsyncOpenAI
from replicas import replicas

pytestmark = pytest.mark.slow

OUTRIDER = [sys.executable, "-m", "outrider"]
REQUESTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "Name three colours."}], "temperature": 0},
    {"messages": [{"role": "user", "content": "What is an outrider?"}], "temperature": 1},
    {"messages": [{"role": "user", "content": "Write a long story."}], "temperature": 1, "n": 2},
]
NUM_TOKENS = 40


class Counter:
    """Counts pieces, and does something once there are enough."""

    def __init__(self, enough: int, then: Any) -> None:
        self._left = enough
        self._then = then

    def count(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._then()


async def answer(client: AsyncOpenAI, model: str, number: int, counter: Counter) -> dict[int, str]:
    """What a client reads, by choice."""
    stream = await client.chat.completions.create(
        model=model, seed=number, max_tokens=NUM_TOKENS, stream=True, **REQUESTS[number]
    )
    texts: dict[int, str] = {}
    async for piece in stream:
        for choice in piece.choices:
            texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
            counter.count()
    return texts


async def all_answers(daemon: RunningDaemon, model: str, counter: Counter) -> list[dict[int, str]]:
    async with daemon.async_client() as client:
        numbers = range(len(REQUESTS))
        return await asyncio.gather(*(answer(client, model, i, counter) for i in numbers))


def verifiers(daemon: RunningDaemon) -> dict[str, dict[str, Any]]:
    reports = httpx2.get(f"{daemon.url}/status").json()["verifiers"]
    return {report["address"]: report for report in reports}


async def test_clients_read_the_same_text_when_a_verifier_is_killed(
    smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    with replicas(OUTRIDER, smollm2_dir, 2) as (one, other):
        addresses = f"{one.address},{other.address}"
        options = ("--resume-timeout-s", "1")
        with running_daemon(addresses, int8_bundle_dir, *options) as daemon:
            model = daemon.wait_until_ready()
            unbroken = await all_answers(daemon, model, Counter(-1, None))
            killed = one

            def kill() -> None:
                nonlocal killed
                num_open = {address: report["num_open"] for address, report in now().items()}
                killed = max((one, other), key=lambda each: num_open[each.address])
                killed.send(signal.SIGKILL)

            def now() -> dict[str, dict[str, Any]]:
                return verifiers(daemon)

            assert await all_answers(daemon, model, Counter(30, kill)) == unbroken
            assert verifiers(daemon)[killed.address]["state"] == "unreachable"
            left = other if killed is one else one
            with pytest.raises(APIError) as caught:
                await all_answers(daemon, model, Counter(30, lambda: left.send(signal.SIGKILL)))
            body: Any = caught.value.body
            assert body["code"] == "broken_off"
            assert body["num_tokens"] > 0
            assert body["text_so_far"]
