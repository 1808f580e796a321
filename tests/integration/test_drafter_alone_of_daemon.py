"""A daemon whose verifier goes and comes back while its drafter, a rougher model, writes alone."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daemons import MortalDaemon, RunningDaemon, running_daemon
from openai import APIError
from replicas import Replica, replicas

pytestmark = pytest.mark.slow

OUTRIDER = [sys.executable, "-m", "outrider"]
OPTIONS = ("--offline", "draft-only")
STORY: Any = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]
NUM_TOKENS = 64
TEMPERATURES = (0.0, 1.0)
ENOUGH = 60
"""Characters that are drafted alone before a verifier is back."""


@asynccontextmanager
async def a_pair(
    target: Path, bundle: Path, state: Path
) -> AsyncIterator[tuple[Replica, RunningDaemon, str]]:
    """A verifier that may be killed, a daemon that goes on without it, and the model's name."""
    with replicas(OUTRIDER, target, 1) as (verifier,):
        options = (*OPTIONS, "--offline-verify-s", "120", "--cache-dir", str(state))
        with running_daemon(verifier.address, bundle, *options) as daemon:
            yield verifier, daemon, daemon.wait_until_ready()


@dataclass
class Reading:
    """What one client of OpenAI's reads; it may take corrections."""

    text: str = ""
    num_sure: int = 0
    num_corrections: int = 0
    finish_reason: str = ""
    num_unsure: int = 0  # characters, at most

    def take(self, piece: Any) -> None:
        ours = getattr(piece, "outrider", None) or {}
        for choice in piece.choices:
            self.text += choice.delta.content or ""
            self.finish_reason = choice.finish_reason or self.finish_reason
            if "unverified" not in ours:
                self.num_sure = len(self.text)
        if isinstance(ours.get("verified"), dict):
            self.num_sure = ours["verified"]["until_character"]
        if correction := ours.get("correction"):
            self.text = self.text[: correction["from_character"]] + correction["text"]
            self.num_sure = len(self.text)
            self.num_corrections += 1
        self.num_unsure = max(self.num_unsure, len(self.text) - self.num_sure)


async def read(
    daemon: RunningDaemon,
    model: str,
    temperature: float,
    reading: Reading,
    on_piece: Callable[[], None] = lambda: None,
    *,
    follows: bool = True,
) -> Reading:
    async with daemon.async_client() as client:
        stream = await client.chat.completions.create(
            model=model,
            messages=STORY,
            max_tokens=NUM_TOKENS,
            temperature=temperature,
            seed=5,
            stream=True,
            extra_body={"outrider": {"corrections": True}} if follows else {},
        )
        async for piece in stream:
            reading.take(piece)
            on_piece()
    return reading


def kill(verifier: Replica) -> None:
    verifier.send(signal.SIGKILL)
    verifier.wait()


async def begin_again(verifier: Replica) -> None:
    verifier.begin()
    await asyncio.to_thread(verifier.ready)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.01)


async def test_what_is_drafted_alone_is_marked_and_never_left_where_it_is_wrong(
    smollm2_dir: Path, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    """A verifier is killed in mid-answer; another comes when all texts go on without it.

    The drafter is a rough one, so that some of it is wrong. Two clients take corrections; the third
    only puts text together, and must hear of it.
    """
    async with a_pair(smollm2_dir, int4_bundle_dir, tmp_path) as (verifier, daemon, model):
        unbroken = [await read(daemon, model, t, Reading()) for t in TEMPERATURES]
        readings, plain, left = [Reading() for _ in TEMPERATURES], Reading(), [18]

        def kill_in_the_middle() -> None:
            left[0] -= 1
            if left[0] == 0:
                kill(verifier)

        following = [
            asyncio.create_task(read(daemon, model, t, reading, kill_in_the_middle))
            for t, reading in zip(TEMPERATURES, readings, strict=True)
        ]
        concatenating = asyncio.create_task(
            read(daemon, model, 1.0, plain, kill_in_the_middle, follows=False)
        )
        await until(lambda: all(one.num_unsure > ENOUGH for one in (*readings, plain)))
        await begin_again(verifier)
        await asyncio.gather(*following)
        with pytest.raises(APIError) as caught:
            await concatenating
    for reading, whole in zip(readings, unbroken, strict=True):
        assert reading.text == whole.text
        assert reading.num_sure == len(reading.text)
        assert reading.finish_reason == whole.finish_reason
        assert whole.num_unsure == 0
    assert sum(reading.num_corrections for reading in readings) > 0
    body: Any = caught.value.body
    assert body["code"] == "text_taken_back"
    assert unbroken[1].text.startswith(body["text_so_far"])
    assert not unbroken[1].text.startswith(plain.text)


def ask(daemon: MortalDaemon, key: str, **question: Any) -> Any:
    """A whole answer, and how it was headed."""
    with daemon.client() as client:
        raw = client.chat.completions.with_raw_response.create(
            model=daemon.model,
            messages=STORY,
            max_tokens=NUM_TOKENS,
            temperature=1.0,
            extra_headers={"Idempotency-Key": key},
            **question,
        )
        return raw.headers, raw.parse()


def test_an_answer_that_no_verifier_sees_says_so_and_later_is_the_targets(
    smollm2_dir: Path, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    """Asked again with its key, it is verified; meanwhile the daemon was killed and began alone."""
    options = (*OPTIONS, "--offline-verify-s", "0")
    with replicas(OUTRIDER, smollm2_dir, 1) as (verifier,):
        daemon = MortalDaemon(verifier.address, int4_bundle_dir, tmp_path, *options)
        daemon.start()
        kill(verifier)
        try:
            first = ask(daemon, "a-key")
            daemon.end()
            daemon.start()  # there is no verifier, but it knows what model there was
            second = ask(daemon, "a-key")
            verifier.begin()
            verifier.ready()
            _, answer = ask(daemon, "a-key")
            while not answer.outrider["verified"]:  # it does not wait for one that is slow to begin
                _, answer = ask(daemon, "a-key")
            seed = answer.outrider["seed"]
            _, unbroken = ask(daemon, "another", seed=seed)
        finally:
            daemon.end()
    for headers, alone in (first, second):
        assert headers["x-outrider-verified"] == "false"
        assert alone.choices[0].finish_reason == "unverified"
        assert alone.choices[0].message.content
        assert alone.outrider["seed"] == seed
    assert answer.choices == unbroken.choices
