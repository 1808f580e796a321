"""A daemon whose verifier goes and comes back: answers wait, and go on with the same tokens."""

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from daemons import RunningDaemon, running_daemon
from openai import AsyncOpenAI
from replicas import replicas

pytestmark = pytest.mark.slow

OUTRIDER = [sys.executable, "-m", "outrider"]
OPTIONS = ("--offline", "queue", "--resume-timeout-s", "0.5", "--connect-timeout-s", "1")
STORY: Any = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]
TEMPERATURES = (0.0, 1.0)
NUM_TOKENS = 40


async def told(
    client: AsyncOpenAI, model: str, temperature: float, on_piece: Callable[[], None]
) -> str:
    """What a client reads of an answer."""
    stream = await client.chat.completions.create(
        model=model,
        messages=STORY,
        max_tokens=NUM_TOKENS,
        temperature=temperature,
        seed=5,
        stream=True,
    )
    text = ""
    async for piece in stream:
        for choice in piece.choices:
            text += choice.delta.content or ""
            on_piece()
    return text


async def two_answers(daemon: RunningDaemon, model: str, on_piece: Callable[[], None]) -> list[str]:
    async with daemon.async_client() as client:
        return await asyncio.gather(*(told(client, model, t, on_piece) for t in TEMPERATURES))


async def lines_of_another(daemon: RunningDaemon, model: str, begun: asyncio.Event) -> list[str]:
    """A stream that begins while there is no verifier, line by line."""
    body = {"model": model, "messages": STORY, "max_tokens": 3, "stream": True}
    url = f"{daemon.url}/v1/chat/completions"
    lines: list[str] = []
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", url, json=body) as response,
    ):
        async for line in response.aiter_lines():
            lines.append(line)
            begun.set()
    return [line for line in lines if line]


async def test_answers_outlast_their_only_verifier(
    smollm2_dir: Path, int8_bundle_dir: Path
) -> None:
    with (
        replicas(OUTRIDER, smollm2_dir, 1) as (verifier,),
        running_daemon(verifier.address, int8_bundle_dir, *OPTIONS) as daemon,
    ):
        model = daemon.wait_until_ready()
        unbroken = await two_answers(daemon, model, lambda: None)
        num_pieces, is_up = 0, True

        def kill_in_the_middle() -> None:
            nonlocal num_pieces, is_up
            num_pieces += 1
            if num_pieces == 12:
                verifier.send(signal.SIGKILL)
                verifier.wait()
                is_up = False

        answering = asyncio.create_task(two_answers(daemon, model, kill_in_the_middle))
        while is_up:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.01)
        begun = asyncio.Event()
        another = asyncio.create_task(lines_of_another(daemon, model, begun))
        await begun.wait()
        verifier.begin()
        await asyncio.to_thread(verifier.ready)
        assert await answering == unbroken
        lines = await another
    assert lines[0] == ": waiting for a verifier"
    assert lines[-1] == "data: [DONE]"
