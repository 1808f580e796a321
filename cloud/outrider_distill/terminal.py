"""Tells a person at a terminal how far a distillation or an evaluation is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from outrider_distill.cost import Cost
from outrider_models.terminal import Terminal

if TYPE_CHECKING:  # needs torch
    from outrider_distill.training import Point


class StepsTerminal(Terminal):
    """Shows how far a distillation or an evaluation is, and what the drafter is worth."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: Progress | None = None
        self._task = TaskID(0)
        self._worth = ""

    @contextmanager
    def bar(self) -> Iterator[None]:
        """A block during which there may be a bar of steps."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            self._steps = bar
            yield
        self._steps = None

    def begin_writing(self, num_tokens: int) -> None:
        """See `DistillProgress`."""
        self._start("Tokens that the target writes", 0, num_tokens)

    def advance(self, num_tokens: int) -> None:
        """See `WritingProgress`."""
        self._advance(num_tokens)

    def begin(self, step: int, num_steps: int) -> None:
        """See `TrainingProgress`."""
        self._start("Training steps", step, num_steps)

    def stepped(self, num_rows: int, loss: float) -> None:
        """See `TrainingProgress`."""
        self._describe(f"Training steps, loss {loss:.3f}{self._worth}")
        self._advance(1)

    def reached(self, point: "Point") -> None:
        """See `TrainingProgress`."""
        worth = point.estimate
        self._worth = f", accepted {worth.greedy:.3f} greedy, {worth.sampled:.3f} sampled"
        ahead = "".join(f"; {share:.3f} at a mask" for share in worth.ahead)
        first = " ".join(f"{share:.3f}" for share in worth.in_first)
        self.console.print(
            f"step {point.step}: {point.num_rows} tokens in {point.seconds:.0f} s{self._worth}; "
            f"in the first 1, 2, 4, 8: {first}{ahead}",
            highlight=False,
        )

    def took(self, writing: Cost, training: Cost) -> None:
        """See `DistillProgress`."""
        self.console.print(f"The target wrote: {writing}.", highlight=False)
        self.console.print(f"The drafter learned from: {training}.", highlight=False)

    def begin_answers(self, num_answers: int) -> None:
        """See `EvaluationProgress`."""
        self._start("Answers", 0, num_answers)

    def answered(self, num_answers: int) -> None:
        """See `EvaluationProgress`."""
        self._advance(num_answers)

    def _start(self, description: str, completed: int, total: int) -> None:
        assert self._steps is not None
        self._task = self._steps.add_task(description, completed=completed, total=total)

    def _describe(self, description: str) -> None:
        assert self._steps is not None
        self._steps.update(self._task, description=description)

    def _advance(self, amount: int) -> None:
        assert self._steps is not None
        self._steps.advance(self._task, amount)
