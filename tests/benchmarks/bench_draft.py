"""Benchmark of the edge's draft model: steps, trees, overhead and memory, on one core.

The ways of a table take turns (A B C A B C ...), so that ratios stand up to a machine whose speed
drifts. The target beside it is plain Transformers in fp32. Prints tables: see `--help`.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from bench_report import Comparison, Series, Table, table_lines
from bench_runs import by_label, interleaved
from bench_ways import TransformersStep
from bench_workload import prompt_text
from rich.console import Console
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from outrider_cloud.loading import load_causal_lm
from outrider_common.sampling import SamplingParams
from outrider_edge.language_model import LanguageModelProposer
from outrider_edge.onnx_batch import OnnxBatch
from outrider_edge.onnx_model import OnnxModel, OnnxSequence
from outrider_edge.proposer import DraftingTask
from outrider_edge.row_tree import TEXT_END
from outrider_models.bundle import FORMAT_VERSION, Bundle
from outrider_models.exporting import ExportRequest, export
from outrider_models.progress import SilentProgress
from outrider_models.store import ModelStore, default_root

MODEL: Final = "smollm2-135m"
INT4: Final = f"{MODEL}-int4"
DEMO: Final = f"{MODEL}-int8"
FP32: Final = f"{MODEL}-none"
FEW_LAYERS: Final = 3
SMALL: Final = f"{FEW_LAYERS} layers of {MODEL}, int4"
VOCABULARY: Final = 16_384
CUT: Final = f", {VOCABULARY} tokens"
PAST_TOKENS: Final = (128, 1000)
NUM_SESSIONS: Final = (2, 4)
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
from outrider_common.settings.edge import EdgeSettings
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
        scratch: for models that are made for the benchmark; they are dropped afterwards.
        tokens: a text, longer than the longest past.
        num_rounds: how often each way is measured.
    """

    store: ModelStore
    scratch: Path
    tokens: list[int]
    num_rounds: int

    def bundle(self, quantisation: str, draft_vocabulary: int | None = None) -> Bundle:
        """A bundle of the target from the store; exported again if it is of an old format."""
        request = ExportRequest(MODEL, quantisation, draft_vocabulary=draft_vocabulary)
        bundle = Bundle.load(export(request, self.store, SilentProgress()))
        if bundle.manifest.format_version == FORMAT_VERSION:
            return bundle
        return Bundle.load(export(request, self.store, SilentProgress(), force=True))

    def small_bundle(self, draft_vocabulary: int | None = None) -> Bundle:
        """A bundle of the target's first layers: of use for its speed alone."""
        source = self.scratch / "model"
        if not source.exists():
            _write_first_layers(self.store.resolve_model(MODEL), source)
        name = f"bundle-{draft_vocabulary}"
        request = ExportRequest(str(source), "int4", name, draft_vocabulary=draft_vocabulary)
        return Bundle.load(export(request, self.store, SilentProgress(), out=self.scratch / name))

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


def _write_first_layers(source: Path, directory: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(source, num_hidden_layers=FEW_LAYERS)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(source).save_pretrained(directory)


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
    models = {name: OnnxModel(bundle) for name, bundle in _stepping(bench).items()}
    for past in PAST_TOKENS:
        text = bench.tokens[:past]
        ways = {TARGET: _target_step(TransformersStep(target, tuple(text)), text[-1])}
        ways |= {name: _draft_step(model, text) for name, model in models.items()}
        comparisons = [Comparison(TARGET, name) for name in models]
        yield bench.table(f"One row with {past} tokens of past", "ms", ways, comparisons)


def _stepping(bench: Bench) -> dict[str, Bundle]:
    return {
        INT4: bench.bundle("int4"),
        INT4 + CUT: bench.bundle("int4", VOCABULARY),
        DEMO: bench.bundle("int8"),
        FP32: bench.bundle("none"),
        SMALL: bench.small_bundle(),
        SMALL + CUT: bench.small_bundle(VOCABULARY),
    }


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
    for name, quantisation in ((INT4, "int4"), (DEMO, "int8")):
        model = OnnxModel(bench.bundle(quantisation))
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
    model = OnnxModel(bench.bundle("int4"))
    ways: dict[str, Callable[[], float]] = {}
    for label, sampling in (("greedy", GREEDY), ("temperature 1", SAMPLED)):
        for width in (1, WIDTH):
            drafting = Drafting(model, text, sampling)
            way = f"{label}, {width} wide"
            ways[way] = _overhead(drafting, width, is_warm=False)
            ways[f"{way}, caches warm"] = _overhead(drafting, width, is_warm=True)
    yield bench.table(f"Python beside the passes for each leaf, {len(text)} tokens", "us", ways)


def _overhead(drafting: Drafting, width: int, *, is_warm: bool) -> Callable[[], float]:
    return lambda: drafting.overhead_us(width, is_warm=is_warm)


def batches(bench: Bench) -> Iterator[Table]:
    """One row each of several sessions: in a pass for each, and in one pass for all."""
    model = OnnxModel(bench.bundle("int4"))
    for past in PAST_TOKENS:
        batch = OnnxBatch(model)
        sequences = [batch.new_sequence() for _ in range(max(NUM_SESSIONS))]
        for sequence in sequences:
            sequence.forward(bench.tokens[:past], num_logits=0)
        ways = {_by_itself(1): _rows_ms(batch, sequences[:1], 1)}
        for count in NUM_SESSIONS:
            ways[_by_itself(count)] = _rows_ms(batch, sequences[:count], 1)
            ways[_together(count)] = _rows_ms(batch, sequences[:count], count)
        comparisons = [Comparison(_by_itself(n), _together(n)) for n in NUM_SESSIONS]
        measure = f"{INT4}, one row of each session, {past} tokens of past"
        yield bench.table(measure, "ms", ways, comparisons)


def _by_itself(count: int) -> str:
    return f"{count} sessions, a pass for each" if count > 1 else "1 session"


def _together(count: int) -> str:
    return f"{count} sessions in one pass"


def _rows_ms(
    batch: OnnxBatch, sequences: list[OnnxSequence], num_together: int
) -> Callable[[], float]:
    groups = [sequences[i : i + num_together] for i in range(0, len(sequences), num_together)]

    def time_ms() -> float:
        began = time.perf_counter()
        for group in groups:
            batch.forward_together([(s, [300], [TEXT_END], [0]) for s in group])
        elapsed_ms = (time.perf_counter() - began) * 1e3
        for sequence in sequences:
            sequence.truncate(sequence.length)
        return elapsed_ms

    return time_ms


def memory(bench: Bench) -> Iterator[Table]:
    """What the process of an edge holds with each drafter."""
    for name, quantisation in ((DEMO, "int8"), (INT4, "int4")):
        bundle = bench.bundle(quantisation).path
        arguments = [sys.executable, "-c", RESIDENT_PROGRAM, str(bundle), prompt_text()[:8000]]
        status = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
        series = tuple(
            Series(label, (int(_found(rf"{key}:\s+(\d+) kB", status)) / 1024,))
            for label, key in (("resident", "VmRSS"), ("at its highest", "VmHWM"))
        )
        yield Table(f"Memory of an edge with {name}", "MiB", series)


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None
    return match[1]


EXPERIMENTS: Final = {
    "steps": steps,
    "trees": trees,
    "batches": batches,
    "overhead": overhead,
    "memory": memory,
}


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
    tokenizer = Tokenizer.from_file(str(store.resolve_model(MODEL) / "tokenizer.json"))
    tokens = tokenizer.encode(prompt_text(), add_special_tokens=False).ids
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(store, Path(scratch), tokens, options.rounds)
        for name in [options.only] if options.only else EXPERIMENTS:
            for table in EXPERIMENTS[name](bench):
                text = "\n".join([*table_lines(table), ""])
                Console().print(text, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
