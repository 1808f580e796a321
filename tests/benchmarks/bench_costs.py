"""The experiments on what the engine costs beside the model: its own time, and memory.

As `bench_experiments`, which holds those on speed.
"""

import random
import time
from collections.abc import Callable
from typing import Any, Final

from bench_experiments import NUM_SESSIONS, SEED, Bench, Experiments
from bench_report import Comparison, Experiment, Series, Table
from bench_ways import Prompt, open_message, run_engine
from bench_workload import ScriptedDrafter
from rich.progress import Progress

from outrider_cloud.engine_stats import EngineStats
from outrider_cloud.scheduler import Load, PackingLimits, PackingScheduler
from outrider_cloud.torch_target import TorchTarget

BARE: Final = "the model's forward"
WHOLE: Final = "the engine's whole pass"
MANY: Final = 1000
SYSTEM_PROMPT: Final = 1000
NUM_SCHEDULES: Final = 200


class PassClock:
    """How long the passes of an engine take, and the model's forward within them.

    Args:
        target: whose model is watched.
        step: the engine's, or a test double.
    """

    def __init__(self, target: TorchTarget, step: Callable[[], bool]) -> None:
        self._step = step
        self.bare_ms: list[float] = []
        self.whole_ms: list[float] = []
        self._began = 0.0
        self._handles = [
            target.model.register_forward_pre_hook(self._before),
            target.model.register_forward_hook(self._after),
        ]

    def step(self) -> bool:
        """One pass of the engine."""
        began = time.perf_counter()
        has_run = self._step()
        if has_run:
            self.whole_ms.append((time.perf_counter() - began) * 1e3)
        return has_run

    def close(self) -> None:
        """Watch no more."""
        for handle in self._handles:
            handle.remove()

    def _before(self, *_: Any) -> None:
        self._began = time.perf_counter()

    def _after(self, *_: Any) -> None:
        self.bare_ms.append((time.perf_counter() - self._began) * 1e3)


def overhead(bench: Bench) -> Experiment:
    """What the engine's pass costs beside the model's forward within it."""
    tables = tuple(
        _overhead_table(bench, num_sessions, drafted=drafted)
        for num_sessions in (1, NUM_SESSIONS)
        for drafted in (False, True)
    )
    method = (
        "Sessions with prompts of 32 tokens. Of every pass in which all of them decode: the time "
        "of "
        "the model's forward, our attention included, and of the whole pass around it: "
        "scheduling, planning, laying out, acceptance, accounting and telling the session's "
        "owner. Drafted: "
        "chains of 4 nodes, each right with probability 0.7."
    )
    return Experiment(5, "What a pass costs beside the model", method, tables)


def _overhead_table(bench: Bench, num_sessions: int, *, drafted: bool) -> Table:
    prompts = bench.short_prompts[:num_sessions]
    num_tokens = bench.scale.num_steady_tokens
    drafters = None
    if drafted:
        answers = run_engine(bench.make_engine(), prompts, num_tokens).texts
        drafters = [
            ScriptedDrafter(
                prompt + answer,
                chain_length=4,
                acceptance=0.7,
                vocab_size=bench.target.vocab_size,
                seed=(SEED, index),
            )
            for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        ]
    engine = bench.make_engine()
    clock = PassClock(bench.target, engine.step)
    engine.step = clock.step  # type: ignore[method-assign]
    run_engine(engine, prompts, num_tokens, drafters)
    clock.close()
    first = 2  # the prompts, and what follows from them
    label = "drafted" if drafted else "plain decoding"
    return Table(
        f"{num_sessions} session{'s' if num_sessions > 1 else ''}, {label}",
        "ms",
        (
            Series(BARE, tuple(clock.bare_ms[first:])),
            Series(WHOLE, tuple(clock.whole_ms[first:])),
        ),
        (Comparison(WHOLE, BARE),),
    )


def scheduling(bench: Bench) -> Experiment:
    """The scheduler alone, with many sessions."""
    chance = random.Random(SEED)
    loads = [_any_load(index, chance) for index in range(MANY)]
    scheduler = PackingScheduler(PackingLimits(512, 16, 256, 64, 0.1))
    times = []
    for _ in range(NUM_SCHEDULES):
        began = time.perf_counter()
        scheduler.schedule(loads)
        times.append((time.perf_counter() - began) * 1e3)
    method = (
        f"{MANY} sessions of 10 tenants, a tenth with prompts left, the others with 4 draft nodes "
        "each; 512 rows a pass. No model takes part."
    )
    table = Table("One schedule", "ms", (Series("Outrider", tuple(times)),))
    return Experiment(6, f"The scheduler, {MANY} sessions", method, (table,))


def _any_load(index: int, chance: random.Random) -> Load:
    is_prefilling = chance.random() < 0.1
    return Load(
        key=index,
        num_uncached=chance.randrange(2, 500) if is_prefilling else 1,
        node_values=() if is_prefilling else (0.7, 0.49, 0.34, 0.24),
        tenant=chance.randrange(10),
    )


def memory(bench: Bench) -> Experiment:
    """How much of the KV cache sessions hold, for the tokens that they have."""
    mixed = _hold(bench, bench.mixed_prompts, bench.progress)
    system = tuple(bench.tokens[:SYSTEM_PROMPT])
    crowd = [(*system, 100 + index) for index in range(bench.scale.num_crowd)]
    shared = _hold(bench, crowd, bench.progress)
    method = (
        f"Sessions that have written 8 tokens each. Mixed: the {NUM_SESSIONS} prompts of "
        f"experiment 2. Crowd: {len(crowd)} sessions whose prompts are one text of {SYSTEM_PROMPT} "
        "tokens and one token more. Tokens held are those of all texts, a shared beginning counted "
        "once."
    )
    tables = (_memory_table("Mixed", mixed), _memory_table("Crowd", shared))
    note = (
        f"Crowd: apart, the texts have {len(crowd) * (SYSTEM_PROMPT + 8)} tokens in the cache; "
        f"{shared.num_held_tokens} are held, in {shared.kv_bytes_held / 2**20:.0f} MiB."
    )
    return Experiment(7, "The memory of the KV cache", method, tables, (note,))


def _memory_table(name: str, stats: EngineStats) -> Table:
    return Table(
        f"{name}: {stats.num_running} sessions",
        "tokens",
        (
            Series("tokens held", (float(stats.num_held_tokens),)),
            Series("room of the pages held", (float(stats.pages.num_held * stats.page_tokens),)),
        ),
        (Comparison("room of the pages held", "tokens held"),),
    )


def _hold(bench: Bench, prompts: list[Prompt], progress: Progress) -> EngineStats:
    """The engine's figures once every session has written its eighth token."""
    engine = bench.make_wide_engine(len(prompts))
    num_written = [0] * len(prompts)
    task = progress.add_task(f"Memory, {len(prompts)} sessions", total=len(prompts) * 8)
    for index, prompt in enumerate(prompts):

        def take(event: Any, index: int = index) -> None:
            num_written[index] += len(event.tokens)

        engine.open(open_message(prompt, 64, engine.info), take)
    while min(num_written) < 8:
        engine.step()
        progress.update(task, completed=sum(min(count, 8) for count in num_written))
    return engine.stats


COSTS: Final[Experiments] = {5: overhead, 6: scheduling, 7: memory}
