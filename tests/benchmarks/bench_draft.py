"""Benchmark of the edge's draft model: steps, trees, overhead and memory, on one core.

The ways of a table take turns (A B C A B C ...), so that ratios stand up to a machine whose speed
drifts. The target beside it is plain Transformers in fp32. Prints tables: see `--help`.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from bench_report import Comparison, Series, Table, table_lines
from bench_runs import by_label, interleaved
from bench_ways import TransformersStep
from bench_workload import prompt_text
from rich.console import Console
from tokenizers import Tokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from outrider_cloud.loading import load_causal_lm
from outrider_common.sampling import SamplingParams
from outrider_edge.language_model import LanguageModelProposer
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.proposer import DraftingTask
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

MODEL: Final = "smollm2-135m"
INT4: Final = f"{MODEL}-int4"
DEMO: Final = f"{MODEL}-int8"
PAST_TOKENS: Final = (128, 1000)
WIDTH: Final = 4
DEPTH: Final = 4
TARGET: Final = "the target, plain Transformers in fp32"
CHAIN: Final = f"{DEPTH} chain steps"
TREE: Final = f"{WIDTH * DEPTH} tree nodes, {DEPTH} deep and {WIDTH} wide"
GREEDY: Final = SamplingParams()
SAMPLED: Final = SamplingParams(temperature=1.0, seed=1)

RESIDENT_PROGRAM: Final = """
import sys
from pathlib import Path
import outrider_edge.runtime as runtime
from outrider_common.config import EdgeSettings
from outrider_common.sampling import SamplingParams
from outrider_edge.proposer import DraftingTask
from outrider_models.bundle import Bundle
bundle = Bundle.load(Path(sys.argv[1]))
tokens = runtime.load_tokenizer(bundle).encode(sys.argv[2])[:1000]
factory = runtime._MAKERS["lm"](EdgeSettings(), bundle)
proposer = factory.start(DraftingTask(SamplingParams(), 900, bundle.manifest.vocab_size))
for end in range(900, len(tokens)):
    proposer.expand(tokens[:end], [[]], 1)
print(Path("/proc/self/status").read_text())
"""
"""What the process of an edge holds, but for its connection: 1,000 tokens of context at the end."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured.

    Attributes:
        store: where the bundles are.
        tokens: a text, longer than the longest past.
        num_rounds: how often each way is measured.
    """

    store: ModelStore
    tokens: list[int]
    num_rounds: int

    def model(self, name: str) -> OnnxModel:
        """The draft model of a bundle, as an edge with default settings runs it."""
        return OnnxModel(Bundle.load(self.store.resolve_bundle(name)))

    def table(
        self,
        measure: str,
        unit: str,
        ways: dict[str, Callable[[], float]],
        comparisons: Sequence[Comparison] = (),
    ) -> Table:
        """Measure ways in turn; the first round warms up and does not count."""
        outcomes = by_label(list(interleaved(ways, self.num_rounds + 1)))
        series = tuple(Series(label, tuple(values[1:])) for label, values in outcomes.items())
        return Table(measure, unit, series, tuple(comparisons))


class Drafting:
    """A proposer over a text, whose tree is grown again and again from the same place.

    Args:
        model: the draft model.
        text: the committed tokens.
        sampling: how tokens are chosen.
    """

    def __init__(self, model: OnnxModel, text: list[int], sampling: SamplingParams) -> None:
        task = DraftingTask(sampling, len(text), model.vocab_size)
        self._proposer = LanguageModelProposer(task, model)
        self._text = tuple(text)  # as a session has it
        self._passes = PassClock(model)

    def grow_ms(self, width: int) -> float:
        """Milliseconds of one pass for each level of a tree that has `width` leaves everywhere."""
        paths = self._first_leaves(width)
        began = time.perf_counter()
        self._grow(paths)
        return (time.perf_counter() - began) * 1e3

    def overhead_us(self, width: int, *, is_warm: bool = False) -> float:
        """Microseconds of this thread for each leaf, beside those of ONNX Runtime's passes.

        Warm: the passes are left out, which drive all else from the processor's caches. The logits
        are then those of an earlier pass.
        """
        paths = self._first_leaves(width)
        self._passes.are_left_out = is_warm
        self._passes.total_s = 0.0
        began = time.thread_time()
        self._grow(paths)
        elapsed = time.thread_time() - began
        self._passes.are_left_out = False
        return (elapsed - self._passes.total_s) * 1e6 / (width * DEPTH)

    def _first_leaves(self, width: int) -> list[list[int]]:
        self._proposer.expand(self._text[:-1], [[]], 1)  # forgets the tree
        (first,) = self._proposer.expand(self._text, [[]], 1)
        return [[token] for token in first.tokens[:width]]

    def _grow(self, paths: list[list[int]]) -> None:
        for _ in range(DEPTH):
            drafts = self._proposer.expand(self._text, paths, 1)
            paths = [[*path, d.tokens[0]] for path, d in zip(paths, drafts, strict=True)]


class PassClock:
    """What ONNX Runtime's passes of a model take of this thread's time.

    Args:
        model: whose session is watched from now on.
    """

    def __init__(self, model: OnnxModel) -> None:
        self.total_s = 0.0
        self.are_left_out = False
        self._run = model.session.run_with_iobinding
        model.session.run_with_iobinding = self._timed

    def _timed(self, *arguments: Any) -> None:
        if self.are_left_out:
            return
        began = time.thread_time()
        self._run(*arguments)
        self.total_s += time.thread_time() - began


def steps(bench: Bench) -> Iterator[Table]:
    """One row of the draft model against one step of the target."""
    directory = bench.store.resolve_model(MODEL)
    target = load_causal_lm(directory, lambda _config: None)
    models = {name: bench.model(name) for name in (INT4, DEMO)}
    for past in PAST_TOKENS:
        text = bench.tokens[:past]
        ways = {TARGET: _target_step(TransformersStep(target, tuple(text)), text[-1])}
        ways |= {name: _draft_step(model, text) for name, model in models.items()}
        comparisons = [Comparison(TARGET, name) for name in models]
        yield bench.table(f"One row with {past} tokens of past", "ms", ways, comparisons)


def _target_step(step: TransformersStep, token: int) -> Callable[[], float]:
    return lambda: step.time_ms(token)


def _draft_step(model: OnnxModel, text: list[int]) -> Callable[[], float]:
    sequence = model.new_sequence()
    sequence.forward(text, num_logits=0)

    def time_ms() -> float:
        began = time.perf_counter()
        sequence.forward([text[-1]])
        elapsed_ms = (time.perf_counter() - began) * 1e3
        sequence.truncate(len(text))
        return elapsed_ms

    return time_ms


def trees(bench: Bench) -> Iterator[Table]:
    """A tree against a chain of the same depth."""
    for name in (INT4, DEMO):
        model = bench.model(name)
        for past in PAST_TOKENS:
            drafting = Drafting(model, bench.tokens[:past], GREEDY)
            ways = {CHAIN: _grow(drafting, 1), TREE: _grow(drafting, WIDTH)}
            measure = f"{name}, {past} tokens of past"
            yield bench.table(measure, "ms", ways, [Comparison(TREE, CHAIN)])


def _grow(drafting: Drafting, width: int) -> Callable[[], float]:
    return lambda: drafting.grow_ms(width)


def overhead(bench: Bench) -> Iterator[Table]:
    """What a leaf costs beside ONNX Runtime's passes: finding its path, masks, ranking."""
    text = bench.tokens[: PAST_TOKENS[-1]]
    ways: dict[str, Callable[[], float]] = {}
    for label, sampling in (("greedy", GREEDY), ("temperature 1", SAMPLED)):
        for width in (1, WIDTH):
            drafting = Drafting(bench.model(INT4), text, sampling)
            way = f"{label}, {width} wide"
            ways[way] = _overhead(drafting, width, is_warm=False)
            ways[f"{way}, caches warm"] = _overhead(drafting, width, is_warm=True)
    yield bench.table(f"Python beside the passes for each leaf, {len(text)} tokens", "us", ways)


def _overhead(drafting: Drafting, width: int, *, is_warm: bool) -> Callable[[], float]:
    return lambda: drafting.overhead_us(width, is_warm=is_warm)


def memory(bench: Bench) -> Iterator[Table]:
    """What the process of an edge holds with the demo's drafter."""
    bundle = bench.store.resolve_bundle(DEMO)
    arguments = [sys.executable, "-c", RESIDENT_PROGRAM, str(bundle), prompt_text()[:8000]]
    status = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    series = tuple(
        Series(label, (int(_found(rf"{key}:\s+(\d+) kB", status)) / 1024,))
        for label, key in (("resident", "VmRSS"), ("at its highest", "VmHWM"))
    )
    yield Table(f"Memory of an edge with {DEMO}", "MiB", series)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None
    return match[1]


EXPERIMENTS: Final = {"steps": steps, "trees": trees, "overhead": overhead, "memory": memory}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description="Measure the edge's draft model on one core.")
    parser.add_argument("--rounds", type=int, default=30, help="of each table (default: 30)")
    parser.add_argument("--only", choices=EXPERIMENTS, help="one experiment (default: all)")
    options = parser.parse_args(arguments)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    torch.set_num_threads(1)
    store = ModelStore(default_root())
    tokenizer = Tokenizer.from_file(str(store.resolve_bundle(INT4) / "tokenizer.json"))
    tokens = tokenizer.encode(prompt_text(), add_special_tokens=False).ids
    bench = Bench(store, tokens, options.rounds)
    for name in [options.only] if options.only else EXPERIMENTS:
        for table in EXPERIMENTS[name](bench):
            text = "\n".join([*table_lines(table), ""])
            Console().print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
