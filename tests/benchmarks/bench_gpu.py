"""Benchmark of the verifier's passes on a GPU, beside the limit that its memory sets.

Random weights at the shapes of real models: the time of a pass does not depend on what the weights
are. Writes every figure as JSON and renders a section of a page from it: see `--help`.
"""

import argparse
import gc
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, Final

import torch
from bench_ways import open_message
from pydantic import TypeAdapter
from rich.console import Console
from transformers import AutoModelForCausalLM, LlamaConfig

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent, EngineSession
from outrider_cloud.scheduler import Grant, Load, Offer, PassOutcome, Schedule
from outrider_cloud.server import engine_around
from outrider_cloud.target import Rows, Segment, Target
from outrider_cloud.torch_target import TorchTarget, kv_shape, usable_device
from outrider_common.errors import InvalidInputError, OutriderError
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.tree import AtNode, AtPosition, DraftNode

SHAPES: Final[dict[str, dict[str, Any]]] = {
    "Llama-3.1-8B": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 14336,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    "SmolLM2-135M": {
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "intermediate_size": 1536,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
}
TINY_SHAPES: Final[dict[str, dict[str, Any]]] = {
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "vocab_size": 300,
        "tie_word_embeddings": True,
    },
}
COLUMNS: Final = "| sessions | nodes each | pass | engine step | memory limit | pass / limit |"
CHUNK: Final = 512
WARM_UPS: Final = 3
"""Passes and steps before the clock starts: kernels are compiled and graphs recorded in them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured.

    Attributes:
        sessions: numbers of sessions.
        nodes: rows of each session in a pass, its frontier counted; 1 is plain decoding.
        context: tokens of each session in the KV cache.
        num_rounds: how often everything is measured.
        copied_bytes: by the copy that measures the memory.
        kv_cache_mib: of the target.
    """

    sessions: tuple[int, ...]
    nodes: tuple[int, ...]
    context: int
    num_rounds: int
    copied_bytes: int
    kv_cache_mib: int | None


FULL: Final = Scale((1, 4, 16, 64, 256), (1, 4, 16), 512, 20, 1 << 30, None)
TINY: Final = Scale((1, 3), (1, 4), 20, 3, 1 << 20, 8)


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one number of sessions with one number of nodes.

    Attributes:
        num_sessions: in a pass.
        num_nodes: rows of each session.
        pass_ms: medians of the target's forward, from the segments to the logits.
        step_ms: of the engine's step around it, by the host's clock.
        limit_ms: what has to be read, divided by the measured bandwidth of the memory.
    """

    num_sessions: int
    num_nodes: int
    pass_ms: float
    step_ms: float
    limit_ms: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The figures of one model.

    Attributes:
        name: whose shape it is.
        weight_bytes: that a pass reads: all weights but those of the rows of the embedding.
        kv_bytes_per_token: keys and values of all layers.
        cells: the figures.
    """

    name: str
    weight_bytes: int
    kv_bytes_per_token: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run.

    Attributes:
        measured_at: date and time in UTC, ISO 8601.
        device: what it ran on.
        driver: of the device.
        versions: of what ran, by name.
        context: tokens of each session in the KV cache.
        num_rounds: of which medians were taken.
        bytes_per_s: read and written by a copy within the device's memory.
        shapes: the figures.
    """

    measured_at: str
    device: str
    driver: str
    versions: dict[str, str]
    context: int
    num_rounds: int
    bytes_per_s: float
    shapes: tuple[Shape, ...]


class EverythingScheduler:
    """Prompts first, CHUNK rows a pass; then all sessions with all their nodes in every pass."""

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        """See `Scheduler.schedule`."""
        unread = next((load for load in loads if load.num_prefill_tokens), None)
        if unread is not None:
            return Schedule([Grant(unread.key, min(unread.num_prefill_tokens, CHUNK), 0)])
        return Schedule([Grant(load.key, 0, len(load.node_values)) for load in loads])

    def calibrate(self, points: Sequence[tuple[int, float]]) -> None:
        """Costs do not matter here."""

    def observe(self, outcome: PassOutcome) -> None:
        """Learn nothing."""

    @property
    def offer(self) -> Offer:
        """Room for more nodes than are sent, at no price."""
        return Offer(max(FULL.nodes), 0.0)


class Clock:
    """Times work on a device: by CUDA events there, by the host's clock on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._is_cuda = device.type == "cuda"

    def ms(self, work: Callable[[], object]) -> float:
        """Milliseconds from before the work's first command to the end of its last."""
        if not self._is_cuda:
            return self.host_ms(work)
        begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    def host_ms(self, work: Callable[[], object]) -> float:
        """Milliseconds until the host has gone on and the device has finished."""
        began = time.perf_counter()
        work()
        if self._is_cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) * 1e3

    def median_ms(self, work: Callable[[], object], num_rounds: int) -> float:
        """After some rounds to warm up."""
        for _ in range(WARM_UPS):
            work()
        return statistics.median(self.ms(work) for _ in range(num_rounds))


def bytes_per_s(clock: Clock, device: torch.device, scale: Scale) -> float:
    """What a copy within the device's memory reads and writes in a second."""
    source = torch.ones(scale.copied_bytes, dtype=torch.uint8, device=device)
    copy = torch.empty_like(source)
    return 2 * scale.copied_bytes / clock.median_ms(lambda: copy.copy_(source), 20) * 1e3


def random_model(shape: dict[str, Any], device: torch.device, scale: Scale) -> Any:
    """A model with random weights, made on the device in the number format that it runs in."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    room = scale.context + max(scale.nodes) + scale.num_rounds + WARM_UPS + 1
    config = LlamaConfig(**shape, max_position_embeddings=max(room, 8192))
    torch.manual_seed(0)
    with device:
        make: Any = AutoModelForCausalLM
        return make.from_config(config, dtype=dtype).eval()


def read_bytes(model: Any) -> int:
    """Weights that a pass reads; of an embedding of its own only a few rows."""
    total = sum(parameter.nbytes for parameter in model.parameters())
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    return int(total if head.weight is embedding.weight else total - embedding.weight.nbytes)


class PassBench:
    """Passes of a target over cached texts; none of their rows is kept.

    Args:
        target: the target.
        scale: how much is measured.
    """

    def __init__(self, target: Target, scale: Scale) -> None:
        self._target = target
        self._context = scale.context
        most_tokens = scale.context + max(scale.nodes)
        self._num_pages = -(-most_tokens // target.cache_shape.page_tokens)
        for session in range(max(scale.sessions)):
            for begin in range(0, scale.context, CHUNK):
                num_rows = min(CHUNK, scale.context - begin)
                rows = Rows.chain(self._tokens(num_rows), first_logits_row=num_rows)
                target.forward([Segment(self._pages(session), begin, rows)])

    def run(self, num_sessions: int, num_nodes: int) -> None:
        """One pass: a chain of nodes behind the text of each session."""
        rows = Rows.chain(self._tokens(num_nodes))
        self._target.forward(
            [Segment(self._pages(i), self._context, rows) for i in range(num_sessions)]
        )

    def _pages(self, session: int) -> range:
        return range(session * self._num_pages, (session + 1) * self._num_pages)

    def _tokens(self, count: int) -> list[int]:
        return [i * 7 % self._target.vocab_size for i in range(count)]


class EngineBench:
    """An engine whose sessions all decode, each with a chain of nodes in every step.

    Args:
        target: the target.
        num_sessions: that are opened.
        num_nodes: rows of each session in a step, its frontier counted.
        scale: how much is measured.
    """

    def __init__(self, target: Target, num_sessions: int, num_nodes: int, scale: Scale) -> None:
        settings = VerifierSettings(max_sessions=num_sessions)
        self._engine: BatchingEngine = engine_around(target, EverythingScheduler(), settings, "")
        self._num_drafts = num_nodes - 1
        self._lengths = [scale.context] * num_sessions
        self._last_ids = [0] * num_sessions
        max_tokens = (scale.num_rounds + WARM_UPS + 2) * num_nodes
        self._sessions: list[EngineSession] = []
        for session in range(num_sessions):
            # No two texts begin alike, so that none shares another's pages.
            prompt = (session % target.vocab_size,) + (1,) * (scale.context - 1)
            message = open_message(prompt, max_tokens, self._engine.info)
            self._sessions.append(self._engine.open(message, self._sink(session)))
        while self._lengths.count(scale.context):
            self._engine.step()

    def draft(self) -> None:
        """Hang a chain into every tree; with random weights hardly any of it is accepted."""
        for session, engine_session in enumerate(self._sessions):
            engine_session.extend(self._chain(session))

    def step(self) -> None:
        """One step."""
        self._engine.step()

    def close(self) -> None:
        """Give all pages back."""
        for session in self._sessions:
            session.cancel()
        self._engine.step()

    def _sink(self, session: int) -> Callable[[EngineEvent], None]:
        def take(event: EngineEvent) -> None:
            if isinstance(event, OutriderError):
                raise event
            self._lengths[session] += len(event.tokens)

        return take

    def _chain(self, session: int) -> list[DraftNode]:
        chain = []
        parent: AtNode | AtPosition = AtPosition(self._lengths[session] - 1)
        for _ in range(self._num_drafts):
            self._last_ids[session] += 1
            chain.append(DraftNode(self._last_ids[session], 1, parent))
            parent = AtNode(self._last_ids[session])
        return chain


def step_ms(target: Target, num_sessions: int, num_nodes: int, clock: Clock, scale: Scale) -> float:
    """The median time of an engine's step with so many sessions."""
    bench = EngineBench(target, num_sessions, num_nodes, scale)
    times = []
    for _ in range(WARM_UPS + scale.num_rounds):
        bench.draft()
        times.append(clock.host_ms(bench.step))
    bench.close()
    return statistics.median(times[WARM_UPS:])


def measure_shape(
    name: str, shape: dict[str, Any], device: torch.device, bandwidth: float, scale: Scale
) -> Shape:
    """The figures of one model."""
    model = random_model(shape, device, scale)
    weight_bytes, clock = read_bytes(model), Clock(device)
    kv = kv_shape(model.config)
    kv_bytes = 2 * kv.num_layers * kv.num_kv_heads * kv.head_size * model.dtype.itemsize
    target = TorchTarget.around(model, kv_cache_mib=scale.kv_cache_mib)
    passes = PassBench(target, scale)

    def cell(num_sessions: int, num_nodes: int) -> Cell:
        num_tokens = num_sessions * (scale.context + num_nodes)
        return Cell(
            num_sessions,
            num_nodes,
            clock.median_ms(lambda: passes.run(num_sessions, num_nodes), scale.num_rounds),
            step_ms(target, num_sessions, num_nodes, clock, scale),
            (weight_bytes + num_tokens * kv_bytes) / bandwidth * 1e3,
        )

    # The engine writes to the same pages: how long a pass takes does not depend on what is there.
    cells = tuple(cell(*numbers) for numbers in product(scale.sessions, scale.nodes))
    return Shape(name, weight_bytes, kv_bytes, cells)


def measure_all(device: torch.device, *, tiny: bool) -> Results:
    """Measure every shape, one after the other."""
    scale, shapes = (TINY, TINY_SHAPES) if tiny else (FULL, SHAPES)
    bandwidth = bytes_per_s(Clock(device), device, scale)
    measured = []
    for name, shape in shapes.items():
        measured.append(measure_shape(name, shape, device, bandwidth, scale))
        gc.collect()  # a model that is gone still has its memory while cycles refer to it
        if device.type == "cuda":
            torch.cuda.empty_cache()
    packages = ("outrider", "torch", "transformers")
    return Results(
        measured_at=datetime.now(UTC).isoformat(timespec="minutes"),
        device=_device_name(device),
        driver=_driver() if device.type == "cuda" else "none",
        versions={"Python": platform.python_version()} | {name: version(name) for name in packages},
        context=scale.context,
        num_rounds=scale.num_rounds,
        bytes_per_s=bandwidth,
        shapes=tuple(measured),
    )


def render(results: Results) -> str:
    """The section of a page."""
    return "\n".join(_lines(results))


def _lines(results: Results) -> Iterator[str]:
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    yield f"Measured {results.measured_at} on {results.device}, driver {results.driver}."
    yield f"{versions}."
    yield ""
    yield f"- Random weights; {results.context} tokens of context for each session."
    yield "- Nodes each: rows of a session in a pass, its frontier counted; 1 is plain decoding."
    yield f"- Pass and step: medians of {results.num_rounds}."
    yield (
        "- Memory limit: weights and KV cache that a pass has to read, divided by what a copy "
        f"reads and writes in a second ({results.bytes_per_s / 1e9:.0f} GB)."
    )
    for shape in results.shapes:
        yield ""
        yield f"### {shape.name}"
        yield ""
        yield (
            f"{shape.weight_bytes / 1e9:.2f} GB of weights; "
            f"{shape.kv_bytes_per_token / 1024:.0f} KiB of KV cache for each token."
        )
        yield ""
        yield COLUMNS
        yield "|---|---|---|---|---|---|"
        yield from map(_row, shape.cells)


def _row(cell: Cell) -> str:
    return (
        f"| {cell.num_sessions} | {cell.num_nodes} | {cell.pass_ms:.2f} ms | {cell.step_ms:.2f} ms "
        f"| {cell.limit_ms:.2f} ms | {cell.pass_ms / cell.limit_ms:.2f} |"
    )


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU of a {platform.system()} {platform.machine()} machine"


def _driver() -> str:
    program = shutil.which("nvidia-smi")
    if program is None:
        return "unknown"
    command = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.split("\n")[0].strip() or "unknown"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the verifier's passes on a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a smoke test with a toy model")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write every figure as JSON")
    parser.add_argument("--section", type=Path, metavar="FILE", help="write the section of a page")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; the exit status."""
    options = _options(arguments)
    try:
        results = measure_all(usable_device(options.device), tiny=options.tiny)
    except OutriderError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, soft_wrap=True)
        return 2 if isinstance(error, InvalidInputError) else 1
    if options.out is not None:
        options.out.write_bytes(TypeAdapter(Results).dump_json(results, indent=2) + b"\n")
    if options.section is not None:
        options.section.write_text(render(results) + "\n", encoding="utf-8")
    else:
        Console().print(render(results), markup=False, highlight=False, soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
