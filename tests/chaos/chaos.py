"""Random fault histories: `make chaos`. Exits with 1 where a promise was broken."""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

from arena import Arena, an_arena, reference
from histories import Operation, Outcome, violations
from process_histories import play_with_processes
from strikes import Strike, some_strikes

from outrider_common.sampling import SamplingParams
from outrider_edge.generation import GenerationRequest

STRIKES_WITHIN_S = 0.6


async def play(seed: int) -> Outcome:
    """One history: several requests, and what goes wrong meanwhile."""
    coins = random.Random(seed)
    num_verifiers = coins.choice((1, 2, 3))
    outcome = Outcome(seed, some_strikes(coins, num_verifiers, STRIKES_WITHIN_S))
    before = set(asyncio.all_tasks())
    async with an_arena(num_verifiers, seed) as arena:
        striking = asyncio.create_task(_strike(arena, outcome.strikes), name="strikes")
        asking = [
            _ask(arena, outcome, coins.randrange(2**32)) for _ in range(coins.choice((1, 3, 6)))
        ]
        await asyncio.gather(*asking)
        await striking
        outcome.complaints += await arena.leftovers()
    for operation in outcome.operations:
        outcome.complaints += violations(operation, may_fail=False)
    left = await _tasks_left(before)
    if left:
        outcome.complaints.append(f"tasks are left: {', '.join(left)}")
    return outcome


async def _tasks_left(before: set[asyncio.Task[Any]]) -> list[str]:
    """The names of tasks that do not end, a while after everything was closed."""
    for _ in range(100):
        if not set(asyncio.all_tasks()) - before:
            break
        await asyncio.sleep(0.02)
    return [task.get_name() for task in set(asyncio.all_tasks()) - before]


async def _strike(arena: Arena, strikes: list[Strike]) -> None:
    """What befalls one verifier comes one after the other."""
    began = time.monotonic()
    for strike in strikes:
        await asyncio.sleep(strike.at_s - (time.monotonic() - began))
        await arena.strike(strike)


async def _ask(arena: Arena, outcome: Outcome, seed: int) -> None:
    coins = random.Random(seed)
    await asyncio.sleep(coins.choice((0, 0, 0.1, 0.3)))
    prompt = tuple(coins.randrange(10) for _ in range(coins.choice((1, 5, 40))))
    sampling = SamplingParams(temperature=coins.choice((0.0, 1.0)), seed=seed)
    max_tokens = coins.choice((1, 20, 80, 150))
    operation = Operation(prompt, reference(prompt, max_tokens, sampling))
    outcome.operations.append(operation)
    outcome.num_answers += 1
    request = GenerationRequest(prompt, max_tokens, sampling, ignore_eos=True)
    try:
        result = await arena.edge.generate(
            request, lambda record: operation.delivered.append((record.position, record.token))
        )
    except Exception as error:  # that is for the validator
        operation.error = error
    else:
        operation.result = result.tokens
        outcome.num_resumes += result.stats.num_resumes


async def play_each(seeds: Iterable[int]) -> AsyncIterator[Outcome]:
    """One history after the other."""
    for seed in seeds:
        yield await play(seed)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=1000, help="in this process")
    parser.add_argument("--processes", type=int, default=100, help="histories of real processes")
    parser.add_argument("--seed", type=int, default=0, help="of the first of either kind")
    chosen = parser.parse_args()
    logging.disable()
    here = range(chosen.seed, chosen.seed + chosen.histories)
    beside = range(chosen.seed, chosen.seed + chosen.processes)
    sys.exit(asyncio.run(_play_all(play_each(here), play_with_processes(beside))))


async def _play_all(*kinds: AsyncIterator[Outcome]) -> int:
    return sum([await _tally(outcomes) for outcomes in kinds]) and 1


async def _tally(outcomes: AsyncIterator[Outcome]) -> int:
    """Print what is found; how many histories broke a promise."""
    counts: Counter[str] = Counter()
    async for outcome in outcomes:
        counts["histories"] += 1
        counts["broken promises"] += bool(outcome.complaints)
        counts["answers"] += outcome.num_answers
        counts["tokens"] += sum(len(one.delivered) for one in outcome.operations)
        counts["strikes"] += len(outcome.strikes)
        counts["resumed sessions"] += outcome.num_resumes
        counts["times asked"] += len(outcome.operations)
        for complaint in outcome.complaints:
            print(
                f"\rseed {outcome.seed}: {complaint}\n  {[s.kind.value for s in outcome.strikes]}"
            )
        print(f"\r{counts['histories']} histories ...", end="", file=sys.stderr, flush=True)
    print("\r" + ", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts["broken promises"]


if __name__ == "__main__":
    main()
