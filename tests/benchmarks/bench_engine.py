"""Benchmark of the verifier's engine against other ways to run the same model, in one process.

Measures a real model in fp32 on the CPU. The ways of an experiment take turns (A B C A B C ...),
so that medians and ratios pair by pair stand up to a machine whose speed drifts. Writes every
figure as JSON and renders a section of a page from it: see `--help`.
"""

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import torch
from bench_costs import COSTS
from bench_experiments import FULL, QUICK, SEED, SPEEDS, Bench, Experiments, Scale
from bench_report import Conditions, Machine, Results, render, write_section
from bench_ways import SteppedEngine
from bench_workload import PROMPT_FILE, prompt_text
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.compiled_linear import CompiledLinear
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.scheduler import Scheduler, TurnScheduler
from outrider_cloud.server import engine_around, packing_scheduler
from outrider_cloud.target_loading import load_target
from outrider_cloud.torch_target import TorchTarget
from outrider_common.errors import InvalidInputError, OutriderError
from outrider_common.settings.verifier import VerifierSettings
from outrider_models.store import ModelStore, default_root

MODEL: Final = "smollm2-135m"
EXPERIMENTS: Final[Experiments] = {**SPEEDS, **COSTS}
SETTINGS: Final = VerifierSettings()
"""A verifier's defaults."""


def make_engine(target: TorchTarget) -> SteppedEngine:
    """The engine that is measured, around a target, as a verifier with default settings has it."""
    return _engine(target, packing_scheduler(SETTINGS))


def make_wide_engine(target: TorchTarget, max_sessions: int) -> BatchingEngine:
    """The engine that is measured, with room for many sessions."""
    settings = SETTINGS.model_copy(update={"max_sessions": max_sessions})
    return _engine(target, packing_scheduler(settings), settings)


def make_plain_engine(target: TorchTarget) -> SteppedEngine:
    """The plain reference: one session a pass, in turn."""
    return _engine(
        target, TurnScheduler(SETTINGS.max_nodes_per_pass, SETTINGS.prefill_chunk_tokens)
    )


def _engine(
    target: TorchTarget, scheduler: Scheduler, settings: VerifierSettings = SETTINGS
) -> BatchingEngine:
    engine = engine_around(target, scheduler, settings, "benchmark")
    engine.warm_up(settings.rows_per_pass)  # as a verifier does when it starts
    return engine


def measure_all(numbers: Sequence[int], scale: Scale, num_threads: int) -> Results:
    """Load the model and run the experiments.

    Args:
        numbers: of the experiments.
        scale: how much is measured.
        num_threads: of torch.

    Raises:
        OutriderError: the model is not in the store, or a run failed.
    """
    machine = _machine()
    directory = ModelStore(default_root()).resolve_model(MODEL)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    torch.set_num_threads(num_threads)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        settings = SETTINGS.model_copy(update={"num_threads": num_threads, "device": "cpu"})
        target = load_target(settings, directory, default_root() / "kernels")
        bench = Bench(
            target=target,
            make_engine=lambda: make_engine(target),
            make_plain_engine=lambda: make_plain_engine(target),
            make_wide_engine=lambda max_sessions: make_wide_engine(target, max_sessions),
            plain=load_causal_lm(directory, lambda _config: None),
            tokens=tokenizer.encode(prompt_text(), add_special_tokens=False).ids,
            scale=scale,
            progress=progress,
        )
        experiments = tuple(EXPERIMENTS[number](bench) for number in sorted(numbers))
    measured_at = datetime.now(UTC).isoformat(timespec="minutes")
    return Results(measured_at, machine, _conditions(bench, num_threads), experiments)


def _machine() -> Machine:
    return Machine(
        cpu=_cpu_model(),
        num_cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.machine()}",
        load_before=os.getloadavg()[0],
    )


def _cpu_model() -> str:
    """As the kernel names it; not every architecture has such a line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown processor")


def _conditions(bench: Bench, num_threads: int) -> Conditions:
    packages = ("outrider", "torch", "transformers", "numpy")
    versions = {"Python": platform.python_version()} | {name: version(name) for name in packages}
    is_compiled = any(isinstance(m, CompiledLinear) for m in bench.target.model.modules())
    versions["linear layers"] = "by the compiled kernel" if is_compiled else "by oneDNN"
    return Conditions(
        model=MODEL,
        is_quick=bench.scale == QUICK,
        num_threads=num_threads,
        seed=SEED,
        prompt_file=PROMPT_FILE,
        prompt_lengths=tuple(map(len, bench.mixed_prompts)),
        versions=versions,
    )


def _experiment_numbers(text: str) -> tuple[int, ...]:
    """Of a list such as `1,2`."""
    known = ", ".join(map(str, EXPERIMENTS))
    try:
        numbers = tuple(map(int, text.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or not set(numbers) <= set(EXPERIMENTS):
        raise argparse.ArgumentTypeError(f"{text!r} names no experiments; there are: {known}")
    return tuple(dict.fromkeys(numbers))


def _thread_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of threads; give 1 or more")
    return int(text)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the verifier's engine on this machine.")
    parser.add_argument("--quick", action="store_true", help="a smoke test of a few minutes")
    parser.add_argument("--threads", type=_thread_count, default=1, help="of torch (default: 1)")
    parser.add_argument(
        "--only",
        type=_experiment_numbers,
        default=tuple(EXPERIMENTS),
        metavar="N,N",
        help="these experiments (default: all)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--report", type=Path, metavar="PAGE", help="write the section of a page")
    parser.add_argument(
        "--from", type=Path, dest="source", metavar="FILE", help="measure nothing, read this JSON"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or read, and report; the exit status."""
    options = _options(arguments)
    try:
        _run(options)
    except OutriderError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, soft_wrap=True)
        return 2 if isinstance(error, InvalidInputError) else 1
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.source is not None:
        results = Results.read(options.source)
    else:
        scale = QUICK if options.quick else FULL
        results = measure_all(options.only, scale, options.threads)
    if options.out is not None:
        results.write(options.out)
    if options.report is not None:
        write_section(options.report, results)
    else:
        Console().print(render(results), markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
