"""Random histories of processes: what clients of a daemon saw while everything around it broke."""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from askers import Asked, Question, ask_until_whole, may_pass
from histories import Outcome, of_delivery, violations
from openai import AsyncOpenAI
from process_arena import ProcessArena, process_arena
from strikes import Strike, some_strikes_with_a_daemon

STRIKES_WITHIN_S: Final = 1.5
HISTORIES_OF_AN_ARENA: Final = 25
"""After so many, all processes are ended and new ones started."""

TIMES_WHOLE: Final = 2
"""Every client asks once more when it has the answer, and everything is well again."""

ON_DISK_AFTER_S: Final = 0.5
"""What a client has been told is in the journal by then, however busy the machine is."""


async def play_with_processes(seeds: Sequence[int]) -> AsyncIterator[Outcome]:
    """One history after the other."""
    for first in range(0, len(seeds), HISTORIES_OF_AN_ARENA):
        some = seeds[first : first + HISTORIES_OF_AN_ARENA]
        num_verifiers = random.Random(some[0]).choice((2, 3))
        with tempfile.TemporaryDirectory() as directory:
            async with process_arena(num_verifiers, Path(directory)) as arena:
                for seed in some:
                    yield await play(arena, seed)


async def play(arena: ProcessArena, seed: int) -> Outcome:
    """One history: some clients that ask, and what goes wrong meanwhile."""
    coins = random.Random(seed)
    outcome = Outcome(
        seed, some_strikes_with_a_daemon(coins, arena.num_verifiers, STRIKES_WITHIN_S)
    )
    asked = [Asked(Question.some(coins)) for _ in range(coins.choice((2, 4, 8)))]
    outcome.num_answers = len(asked)
    async with _a_client(arena) as client, asyncio.TaskGroup() as tasks:
        for strikes in _of_each_victim(outcome.strikes):
            tasks.create_task(_strike(arena, strikes), name="strikes")
        for one in asked:
            tasks.create_task(_ask(client, one, coins.choice((0, 0, 0.4, 0.8))), name="asks")
    async with _a_client(arena) as client:
        for one in asked:
            await ask_until_whole(client, one)
            outcome.operations += one.attempts
            outcome.complaints += complaints_about(one, outcome.strikes, arena.daemon_killed_at)
    outcome.complaints += await arena.leftovers() + arena.complaints()
    return outcome


@contextlib.asynccontextmanager
async def _a_client(arena: ProcessArena) -> AsyncIterator[AsyncOpenAI]:
    url = f"{arena.daemon.url}/v1"
    async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


def _of_each_victim(strikes: Sequence[Strike]) -> list[list[Strike]]:
    """What befalls one process comes one after the other."""
    victims = {strike.verifier for strike in strikes}
    return [[one for one in strikes if one.verifier == victim] for victim in victims]


async def _strike(arena: ProcessArena, strikes: Sequence[Strike]) -> None:
    began = time.monotonic()
    for strike in strikes:
        await asyncio.sleep(strike.at_s - (time.monotonic() - began))
        await arena.strike(strike)


async def _ask(client: AsyncOpenAI, asked: Asked, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    await ask_until_whole(client, asked)


def complaints_about(
    asked: Asked, strikes: Sequence[Strike], killed_at: Sequence[float]
) -> list[str]:
    """Every broken promise to one client, who asked once more when it had the answer.

    Args:
        asked: what it asked, and was answered.
        strikes: all that happened meanwhile.
        killed_at: when the daemon was killed.
    """
    found: list[str] = []
    for attempt in asked.attempts:
        found += of_delivery(attempt) if attempt.error else violations(attempt, may_fail=False)
    errors = [attempt.error for attempt in asked.attempts if attempt.error is not None]
    found += [f"it failed: {error!r}" for error in errors if not may_pass(error)]
    if len(asked.names) < TIMES_WHOLE:
        found.append(f"of {len(asked.attempts)} times it was answered {len(asked.names)} times")
    if errors and all(strike.verifier is not None for strike in strikes):
        found.append(f"though the daemon was well, it failed: {errors[0]!r}")
    return found + _of_names(asked.names, killed_at)


def _of_names(names: Sequence[tuple[float, str]], killed_at: Sequence[float]) -> list[str]:
    """A whole answer keeps its name, unless the daemon is killed before it is on the disk."""
    found = []
    for (before_s, before), (_, after) in pairwise(names):
        is_excused = any(before_s <= at_s <= before_s + ON_DISK_AFTER_S for at_s in killed_at)
        if before != after and not is_excused:
            found.append(f"the whole answer {before} was {after} later")
    return found
