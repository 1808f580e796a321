"""Distillations of a tiny target, which tests can stop where they like."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from outrider_distill.cost import Cost
from outrider_distill.distil import Distillation, Machine
from outrider_distill.request import DistillRequest
from outrider_distill.student import State, trained_state
from outrider_distill.training import Point
from outrider_models.store import ModelStore


class StoppedError(Exception):
    """As Ctrl-C."""


class Watcher:
    """Counts, and stops the work where it is told to."""

    def __init__(self, stop_after_steps: int | None = None, stop_after_tokens: int | None = None):
        self.num_steps, self.num_tokens = 0, 0
        self.costs: tuple[Cost, Cost] | None = None
        self._most_steps, self._most_tokens = stop_after_steps, stop_after_tokens

    def stage(
        self, description: str, *, has_own_bar: bool = False
    ) -> AbstractContextManager[object]:
        return nullcontext()

    def begin_writing(self, num_tokens: int) -> None: ...

    def advance(self, num_tokens: int) -> None:
        self.num_tokens += num_tokens
        if self._most_tokens is not None and self.num_tokens > self._most_tokens:
            raise StoppedError

    def begin(self, step: int, num_steps: int) -> None: ...

    def stepped(self, num_rows: int, loss: float) -> None:
        self.num_steps += 1
        if self.num_steps == self._most_steps:
            raise StoppedError

    def reached(self, point: Point) -> None: ...

    def took(self, writing: Cost, training: Cost) -> None:
        self.costs = writing, training


class Distiller:
    """Runs distillations of one target."""

    def __init__(self, tiny_dir: Path, root: Path) -> None:
        self.root, self.store = root, ModelStore(root / "store")
        prompts = root / "prompts.jsonl"
        prompts.write_text('{"prompt": "Why?"}\n{"prompt": "What is a fox?"}\n', encoding="utf-8")
        self.request = DistillRequest(
            str(tiny_dir), (0, 3), (prompts,), text_tokens=3000, max_tokens=48, epochs=3
        )

    def start(self, name: str, request: DistillRequest | None = None) -> Distillation:
        return self.watched(name, Watcher(), request)

    def watched(
        self, name: str, watcher: Watcher, request: DistillRequest | None = None
    ) -> Distillation:
        directory = self.root / name
        return Distillation(request or self.request, directory, self.store, Machine("cpu"), watcher)

    def train(self, name: str, watcher: Watcher | None = None) -> State:
        """Without the export, which takes most of the time."""
        run = self.watched(name, watcher or Watcher())
        run.write_text()
        return trained_state(run.train())

    def run(self, name: str, watcher: Watcher | None = None) -> Path:
        run = self.watched(name, watcher or Watcher())
        run.write_text()
        return run.export(run.train(), "none", None)


def are_equal(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
