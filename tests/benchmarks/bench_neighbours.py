"""Benchmark of what an edge and a verifier on one machine cost each other.

A deployment has them on two machines, the network benchmark on two cores of one. Passes of the
target run on one core while a draft model runs flat out on another, or stands still; and the other
way round. No session, no link and no message is there. The ways take turns. Prints a table.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import torch
from bench_draft import Drafting
from bench_report import Comparison, Series, Table, table_lines
from bench_runs import by_label, interleaved
from bench_ways import TargetPass
from bench_workload import prompt_text
from rich.console import Console
from tokenizers import Tokenizer

from outrider_cloud.target_loading import load_target
from outrider_common.sampling import SamplingParams
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.onnx_model import OnnxModel
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

MODEL: Final = "smollm2-135m"
PAST_TOKENS: Final = 200
NUM_ROWS: Final = (1, 8)
WINDOW_S: Final = 1.0
"""How long either side is watched in a round."""

SETTLING_S: Final = 0.1


def text_tokens() -> list[int]:
    """The past of both models."""
    directory = ModelStore(default_root()).resolve_model(MODEL)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return tokenizer.encode(prompt_text(), add_special_tokens=False).ids[:PAST_TOKENS]


def draft_for_ever(bundle: Path, core: int, log: Path) -> None:
    """The neighbour: draft without a pause, and write down how long each chain took, and when."""
    os.sched_setaffinity(0, {core})
    drafting = Drafting(OnnxModel(Bundle.load(bundle)), text_tokens(), SamplingParams())
    with log.open("w", buffering=1) as lines:
        while True:
            print(time.monotonic(), drafting.grow_ms(1), file=lines)


class Neighbour:
    """A draft model in a process of its own, on another core; it stands still at first.

    Args:
        bundle: of the model.
        core: where it runs.
        directory: takes its notes.
    """

    def __init__(self, bundle: Path, core: int, directory: Path) -> None:
        self._log = directory / f"{bundle.name}.txt"
        command = [sys.executable, __file__, "--draft", str(bundle), "--core", str(core)]
        self._process = subprocess.Popen([*command, "--log", str(self._log)])
        while not (self._log.exists() and self._log.stat().st_size):
            time.sleep(0.1)
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """It drafts as long as this lasts."""
        self._process.send_signal(signal.SIGCONT)
        time.sleep(SETTLING_S)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGSTOP)

    def median_ms(self, since_s: float) -> float:
        """Four levels of a chain, since then."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return median(float(ms) for at_s, ms in lines[:-1] if float(at_s) >= since_s)

    def end(self) -> None:
        """It is not needed any more."""
        self._process.kill()
        self._process.wait()


def passes_ms(target: TargetPass, tokens: tuple[int, ...]) -> float:
    """The median pass over as many passes as fit."""
    times, end_s = [], time.monotonic() + WINDOW_S
    while time.monotonic() < end_s:
        times.append(target.time_ms(tokens))
    return median(times)


def ways(
    target: TargetPass, tokens: tuple[int, ...], neighbour: Neighbour
) -> dict[str, Callable[[], float]]:
    """Each side alone, and beside the other."""
    row = tokens[:1]

    def beside(num_rows: int) -> float:
        with neighbour.busy():
            return passes_ms(target, tokens[:num_rows])

    def drafts_alone() -> float:
        began_s = time.monotonic()
        with neighbour.busy():
            time.sleep(WINDOW_S)
        return neighbour.median_ms(began_s + SETTLING_S)

    def drafts_beside() -> float:
        began_s = time.monotonic()
        with neighbour.busy():
            passes_ms(target, row)
        return neighbour.median_ms(began_s + SETTLING_S)

    found: dict[str, Callable[[], float]] = {}
    for n in NUM_ROWS:
        found[f"pass of {n}, alone"] = lambda n=n: passes_ms(target, tokens[:n])  # type: ignore[misc]
        found[f"pass of {n}, beside drafting"] = lambda n=n: beside(n)  # type: ignore[misc]
    return found | {"four levels, alone": drafts_alone, "four levels, beside passes": drafts_beside}


def measure(
    bundle: Path, core: int, target: TargetPass, tokens: tuple[int, ...], rounds: int
) -> Table:
    """One draft model, on a core, beside the target."""
    with tempfile.TemporaryDirectory() as directory:
        neighbour = Neighbour(bundle, core, Path(directory))
        try:
            outcomes = by_label(list(interleaved(ways(target, tokens, neighbour), rounds)))
        finally:
            neighbour.end()
    labels = list(outcomes)
    pairs = zip(labels[::2], labels[1::2], strict=True)
    return Table(
        f"The target and {bundle.name}",
        "ms",
        tuple(Series(label, tuple(values)) for label, values in outcomes.items()),
        tuple(Comparison(beside, alone) for alone, beside in pairs),
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", help="names or directories of draft models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--draft", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draft is not None:
        draft_for_ever(arguments.draft, arguments.core, arguments.log)
    own_core, other_core = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, {own_core})
    torch.set_num_threads(1)
    store = ModelStore(default_root())
    directory = store.resolve_model(MODEL)
    settings = VerifierSettings(num_threads=1, device="cpu")
    tokens = tuple(text_tokens())
    target = TargetPass(load_target(settings, directory, default_root() / "kernels"), tokens[:-8])
    console = Console()
    for bundle in map(store.resolve_bundle, arguments.bundles):
        for line in table_lines(measure(bundle, other_core, target, tokens[-8:], arguments.rounds)):
            console.print(line)


if __name__ == "__main__":
    main()
