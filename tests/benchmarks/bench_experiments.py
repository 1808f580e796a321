"""The experiments: which ways are measured on what, and which figures of them are kept.

Knows the ways and the workload, and nothing of how an engine is built, of files or of options.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from bench_report import Comparison, Experiment, Series, Table
from bench_runs import Run, by_label, interleaved
from bench_ways import (
    CHUNK_TOKENS,
    Prompt,
    SteppedEngine,
    TargetPass,
    TransformersModel,
    TransformersStep,
    run_continuous_batching,
    run_engine,
    run_padded_generate,
)
from bench_workload import ScriptedDrafter, cut_prompts, prompt_lengths
from rich.progress import Progress

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.torch_target import TorchTarget

Outcome = TypeVar("Outcome")
MakeEngine = Callable[[], SteppedEngine]

SEED: Final = 20261121
NUM_SESSIONS: Final = 16
SHORT_PROMPT: Final = 32
PAST_TOKENS: Final = 128
ROW_COUNTS: Final = (1, 4, 8, 16)
CHAIN_LENGTH: Final = 4
ACCEPTANCE: Final = 0.7
NUM_DRAFTED_TOKENS: Final = 48
"""Enough that all sessions decode together for a while, although drafted ones end early."""

STEP: Final = "Transformers, one step"
OURS: Final = "Outrider"
IN_TURN: Final = "Outrider, one session a pass"
PADDED: Final = "Transformers `generate`, padded"
CONTINUOUS: Final = "Transformers, continuous batching"
DRAFTED: Final = "Outrider, drafted"
UNDRAFTED: Final = "Outrider, undrafted"

STEADY: Final = "generated tokens a second while every session is decoding"


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        num_passes: rounds of single passes.
        num_runs: rounds of runs with all sessions.
        num_single_runs: rounds of runs with one session.
        longest_prompt: of those of mixed length, in tokens.
        num_mixed_tokens: that each session generates from a prompt of mixed length.
        num_steady_tokens: that each session generates from a short prompt.
        num_crowd: sessions that begin with the same text.
    """

    num_passes: int
    num_runs: int
    num_single_runs: int
    longest_prompt: int
    num_mixed_tokens: int
    num_steady_tokens: int
    num_crowd: int


FULL: Final = Scale(
    num_passes=50,
    num_runs=3,
    num_single_runs=10,
    longest_prompt=1024,
    num_mixed_tokens=24,
    num_steady_tokens=32,
    num_crowd=1000,
)
QUICK: Final = Scale(
    num_passes=10,
    num_runs=2,
    num_single_runs=4,
    longest_prompt=128,
    num_mixed_tokens=8,
    num_steady_tokens=16,
    num_crowd=100,
)


class Bench:
    """Everything that the experiments share.

    Args:
        target: ours.
        make_engine: builds the engine that is measured, around it.
        make_plain_engine: builds one that runs a single session a pass.
        make_wide_engine: builds one as `make_engine` does, with room for so many sessions.
        plain: the same weights as Transformers runs them.
        tokens: of the text that prompts are cut from.
        scale: how much is measured.
        progress: shows how far it is.
    """

    def __init__(
        self,
        target: TorchTarget,
        make_engine: MakeEngine,
        make_plain_engine: MakeEngine,
        make_wide_engine: Callable[[int], BatchingEngine],
        plain: TransformersModel,
        tokens: Sequence[int],
        scale: Scale,
        progress: Progress,
    ) -> None:
        self.target = target
        self.make_engine = make_engine
        self.make_plain_engine = make_plain_engine
        self.make_wide_engine = make_wide_engine
        self.plain = plain
        self.tokens = tokens
        self.scale = scale
        self.progress = progress
        lengths = prompt_lengths(NUM_SESSIONS, SHORT_PROMPT, scale.longest_prompt, SEED)
        self.mixed_prompts = cut_prompts(tokens, lengths)
        self.short_prompts = cut_prompts(tokens, (SHORT_PROMPT,) * NUM_SESSIONS)
        self.single_prompt = tuple(tokens[:PAST_TOKENS])

    def measure(
        self, title: str, ways: Mapping[str, Callable[[], Outcome]], num_rounds: int
    ) -> dict[str, list[Outcome]]:
        """Take turns; the outcomes of each way, one per round."""
        task = self.progress.add_task(title, total=len(ways) * num_rounds)
        outcomes = []
        for outcome in interleaved(ways, num_rounds):
            outcomes.append(outcome)
            self.progress.advance(task)
        return by_label(outcomes)


def passes(bench: Bench) -> Experiment:
    """One session: a pass over several rows against one plain decoding step."""
    following = tuple(bench.tokens[PAST_TOKENS : PAST_TOKENS + max(ROW_COUNTS)])
    step = TransformersStep(bench.plain, bench.single_prompt)
    target_pass = TargetPass(bench.target, bench.single_prompt)

    def rows_way(num_rows: int) -> Callable[[], float]:
        return lambda: target_pass.time_ms(following[:num_rows])

    ways: dict[str, Callable[[], float]] = {STEP: lambda: step.time_ms(following[0])}
    ways |= {f"{OURS}, rows: {rows}": rows_way(rows) for rows in ROW_COUNTS}
    for way in ways.values():
        way()
    title = "The time of a pass"
    times = bench.measure(title, ways, bench.scale.num_passes)
    table = Table(
        "Time of one pass",
        "ms",
        tuple(Series(label, tuple(values)) for label, values in times.items()),
        tuple(Comparison(label, STEP) for label in times if label != STEP),
    )
    method = (
        f"One session with {PAST_TOKENS} tokens in its KV cache. A pass of ours computes a chain "
        "of rows and returns their logits; a step of Transformers computes one row, over its own "
        "`DynamicCache`. Nothing is kept, so that each begins at the same place."
    )
    return Experiment(1, title, method, (table,))


def batching(bench: Bench) -> Experiment:
    """Many sessions, no drafts: our engine against Transformers' two ways to batch."""
    error = _why_continuous_fails(bench)
    title = f"{NUM_SESSIONS} sessions, plain decoding"

    def measure(kind: str, prompts: Sequence[Prompt], num_tokens: int) -> dict[str, list[Run]]:
        ways = _batching_ways(bench, prompts, num_tokens, with_continuous=error is None)
        return bench.measure(f"{title}, {kind} prompts", ways, bench.scale.num_runs)

    mixed = measure("mixed", bench.mixed_prompts, bench.scale.num_mixed_tokens)
    short = measure("short", bench.short_prompts, bench.scale.num_steady_tokens)
    others = [label for label in mixed if label != OURS]
    notes = [f"Mixed prompts: {_equality(mixed, label, OURS)}" for label in others]
    notes += [f"Short prompts: {_equality(short, label, OURS)}" for label in others]
    if error is not None:
        notes.append(f"{CONTINUOUS} does not run here: {error}")
    tables = _batching_tables(mixed, short, tuple(Comparison(OURS, label) for label in others))
    return Experiment(2, title, _batching_method(bench), tables, tuple(notes))


def _batching_method(bench: Bench) -> str:
    lengths = [len(prompt) for prompt in bench.mixed_prompts]
    return (
        f"Mixed prompts: {NUM_SESSIONS} of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} "
        f"together, {bench.scale.num_mixed_tokens} tokens generated for each. Short prompts: "
        f"{NUM_SESSIONS} of {SHORT_PROMPT} tokens, {bench.scale.num_steady_tokens} tokens "
        "generated for each. All arrive at once; greedy, end-of-text ignored. `generate` takes "
        "one batch, padded on the left to the longest prompt; continuous batching "
        "is what `generate_batch` does: a paged cache, made before the clock starts, and at most "
        f"{CHUNK_TOKENS} tokens a pass."
    )


def _batching_tables(
    mixed: Mapping[str, Sequence[Run]],
    short: Mapping[str, Sequence[Run]],
    comparisons: tuple[Comparison, ...],
) -> tuple[Table, ...]:
    return (
        _table(
            "Mixed prompts: generated tokens a second of the whole run, prompts included",
            "tokens/s",
            mixed,
            lambda run: run.tokens_per_s,
            comparisons,
        ),
        _table(
            "Mixed prompts: time until every session has its first token",
            "s",
            mixed,
            lambda run: run.prompts_s,
        ),
        _table(
            f"Short prompts: {STEADY}",
            "tokens/s",
            short,
            lambda run: run.steady_tokens_per_s,
            comparisons,
        ),
    )


def drafting(bench: Bench) -> Experiment:
    """Many sessions with drafts of a known quality against the same without."""
    title = f"{NUM_SESSIONS} sessions, drafted"
    return _drafted_against_undrafted(bench, 3, title, bench.short_prompts, bench.scale.num_runs)


def single_drafting(bench: Bench) -> Experiment:
    """The same as `drafting` for one session."""
    prompts = [bench.single_prompt]
    rounds = bench.scale.num_single_runs
    return _drafted_against_undrafted(bench, 4, "One session, drafted", prompts, rounds)


Experiments = Mapping[int, Callable[[Bench], Experiment]]
"""By number, as `--only` takes them."""

SPEEDS: Final[Experiments] = {
    1: passes,
    2: batching,
    3: drafting,
    4: single_drafting,
}


def _batching_ways(
    bench: Bench, prompts: Sequence[Prompt], num_tokens: int, *, with_continuous: bool
) -> dict[str, Callable[[], Run]]:
    ways: dict[str, Callable[[], Run]] = {
        OURS: lambda: run_engine(bench.make_engine(), prompts, num_tokens),
        IN_TURN: lambda: run_engine(bench.make_plain_engine(), prompts, num_tokens),
        PADDED: lambda: run_padded_generate(bench.plain, prompts, num_tokens),
    }
    if with_continuous:
        ways[CONTINUOUS] = lambda: run_continuous_batching(bench.plain, prompts, num_tokens)
    return ways


def _drafted_against_undrafted(
    bench: Bench, number: int, title: str, prompts: Sequence[Prompt], num_rounds: int
) -> Experiment:
    """Learn the target's own text first, then decode it with and without drafts in turn."""

    def undrafted() -> Run:
        return run_engine(bench.make_engine(), prompts, NUM_DRAFTED_TOKENS)

    answers = undrafted().texts

    def drafted() -> Run:
        drafters = _drafters(prompts, answers, bench.target.vocab_size)
        return run_engine(bench.make_engine(), prompts, NUM_DRAFTED_TOKENS, drafters)

    runs = bench.measure(title, {UNDRAFTED: undrafted, DRAFTED: drafted}, num_rounds)
    method = (
        f"Prompts of {len(prompts[0])} tokens, {NUM_DRAFTED_TOKENS} tokens generated for each. "
        f"Whenever a session has committed something, a chain of {CHAIN_LENGTH} nodes is there for "
        f"its next pass; each node is right with probability {ACCEPTANCE}, by a seeded coin over "
        "text that the target wrote in a run before. Drafting itself and the network cost nothing "
        "here: this is the verifier's part."
    )
    tables = (
        _table(
            f"Rate: {STEADY}",
            "tokens/s",
            runs,
            lambda run: run.steady_tokens_per_s,
            (Comparison(DRAFTED, UNDRAFTED),),
        ),
        _table("Tokens that one session commits in a pass", "", runs, lambda r: r.tokens_per_pass),
    )
    notes = (_equality(runs, DRAFTED, UNDRAFTED),)
    return Experiment(number, title, method, tables, notes)


def _drafters(
    prompts: Sequence[Prompt], answers: Sequence[Prompt], vocab_size: int
) -> list[ScriptedDrafter]:
    return [
        ScriptedDrafter(
            prompt + answer,
            chain_length=CHAIN_LENGTH,
            acceptance=ACCEPTANCE,
            vocab_size=vocab_size,
            seed=(SEED, index),
        )
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]


def _table(
    measure: str,
    unit: str,
    runs: Mapping[str, Sequence[Run]],
    figure: Callable[[Run], float],
    comparisons: tuple[Comparison, ...] = (),
) -> Table:
    series = tuple(Series(label, tuple(map(figure, of_way))) for label, of_way in runs.items())
    return Table(measure, unit, series, comparisons)


def _equality(runs: Mapping[str, Sequence[Run]], label: str, reference: str) -> str:
    """In how many sessions two ways agree, in the round in which they agree least."""
    pairs = zip(runs[label], runs[reference], strict=True)
    equal = min(run.num_equal_texts(other) for run, other in pairs)
    num_sessions = len(runs[label][0].texts)
    return f"{label}: the texts of {equal} of {num_sessions} sessions equal those of {reference}."


def _why_continuous_fails(bench: Bench) -> str | None:
    """Try continuous batching on something small; the error, or None if it runs."""
    try:
        run_continuous_batching(bench.plain, [(1, 2, 3)], 2)
    except Exception as error:  # whatever Transformers raises where it cannot run
        return f"{type(error).__name__}: {error}"
    return None
