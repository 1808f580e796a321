"""Trains a student on what its teacher thought of its own text.

A run is a pure function of student, samples and plan, up to the rounding of the machine: it can be
stopped at any step and goes on from the last checkpoint to the same weights. Knows nothing of how
the text was written, or of what becomes of the student.
"""

import io
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, cast

import torch
from transformers import PreTrainedModel

from outrider_common.errors import ModelFileError
from outrider_distill.batches import Batch, batches, epoch_batches
from outrider_distill.candidates import NUM_STAND_INS, log_probs_of
from outrider_distill.cost import Cost
from outrider_distill.estimate import Estimate, estimate, hidden_rows
from outrider_distill.losses import Buckets, Loss
from outrider_distill.samples import Sample, write_whole
from outrider_distill.student import trained_state

LAST_RATE: Final = 0.05
"""The learning rate at the end, as a share of the highest."""

BETAS: Final = (0.9, 0.95)
LARGEST_GRADIENT: Final = 1.0

_LARGE_PRIME: Final = 1_000_003  # between the seeds of runs: more than there are steps


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How a student is trained.

    Attributes:
        loss: what becomes small.
        learning_rate: the highest; it rises over `warmup_steps` and falls along a cosine.
        warmup_steps: at most a tenth of all.
        batch_tokens: of a step, padding counted.
        epochs: how often each text is learned from.
        seed: of the order of texts and of what stands in for the vocabulary.
        dtype: in which matrix products are computed: `float32` or `bfloat16`.
        checkpoint_steps: between two checkpoints.
        estimates: how often the acceptance is estimated on the way.
        num_stand_ins: tokens that stand for the rest of the vocabulary; see `candidates`.
    """

    loss: Loss = Loss.KL_TV
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    batch_tokens: int = 1024
    epochs: float = 6.0
    seed: int = 0
    dtype: str = "float32"
    checkpoint_steps: int = 100
    estimates: int = 12
    num_stand_ins: int = NUM_STAND_INS

    def rate(self, step: int, num_steps: int) -> float:
        """The learning rate of a step, counted from 0."""
        warmup = max(1, min(self.warmup_steps, num_steps // 10))
        share = step / num_steps
        falling = LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * share)) / 2
        return self.learning_rate * min(1.0, (step + 1) / warmup) * falling


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the curve of a run.

    Attributes:
        step: steps that were made.
        num_rows: next tokens that were learned from.
        seconds: of training, with those that estimates and checkpoints took.
        loss: the mean since the last point; None at the start.
        estimate: on text that was not shown.
    """

    step: int
    num_rows: int
    seconds: float
    loss: float | None
    estimate: Estimate


class TrainingProgress(Protocol):
    """Watches a training."""

    def begin(self, step: int, num_steps: int) -> None:
        """Training starts, or goes on, at a step."""
        ...

    def stepped(self, num_rows: int, loss: float) -> None:
        """One step more has been made."""
        ...

    def reached(self, point: Point) -> None:
        """The acceptance has been estimated."""
        ...


class Trainer:
    """A student in training.

    Args:
        student: is changed.
        samples: to learn from.
        held_out: to estimate the acceptance on.
        plan: how.
        checkpoint: the file from which the training goes on, if it is there.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        samples: Sequence[Sample],
        held_out: Sequence[Sample],
        plan: TrainingPlan,
        checkpoint: Path,
    ) -> None:
        self._student, self._samples, self._plan = student, samples, plan
        self._device = student.device
        self._dtype: torch.dtype = getattr(torch, plan.dtype)
        head: Any = cast(Any, student).get_output_embeddings()
        self._head = head.weight.detach().to(self._dtype)
        self._parameters = [p for p in student.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(self._parameters, betas=BETAS, weight_decay=0.0)
        size = plan.batch_tokens
        self._num_masks = len(getattr(student, "mask_embeddings", ()))
        self._held_out = [self._batch(part, 0) for part in epoch_batches(held_out, size, 0, 0)]
        self.num_steps = max(
            1, round(plan.epochs * len(epoch_batches(samples, size, plan.seed, 0)))
        )
        self._checkpoint = checkpoint
        self._step, self._num_rows, self._seconds = 0, 0, 0.0
        self._began = time.perf_counter()
        self._losses: list[float] = []
        self._curve: list[dict[str, Any]] = []
        if checkpoint.is_file():
            self._restore()

    @property
    def curve(self) -> Sequence[dict[str, Any]]:
        """The points so far, as plain values."""
        return self._curve

    @property
    def cost(self) -> Cost:
        """What all of the training so far has taken."""
        return Cost(self._num_rows, self._seconds)

    @property
    def student(self) -> PreTrainedModel:
        """The model that is trained."""
        return self._student

    @property
    def step(self) -> int:
        """How many steps have been made."""
        return self._step

    def run(self, progress: TrainingProgress, num_steps: int | None = None) -> None:
        """Train to the end, or up to a step before it.

        Raises:
            UnavailableError: the disk is full.
        """
        end = self.num_steps if num_steps is None else min(num_steps, self.num_steps)
        self._began = time.perf_counter()
        progress.begin(self._step, self.num_steps)
        if not self._curve:
            self._estimate(progress)
        order = batches(self._samples, self._plan.batch_tokens, self._plan.seed)
        for part in islice(order, self._step, end):
            loss, num_rows = self._learn(self._batch(part, self._step))
            self._step += 1
            self._num_rows += num_rows
            self._losses.append(loss)
            progress.stepped(num_rows, loss)
            self._keep_up(progress)
        self._save()

    def _batch(self, samples: Sequence[Sample], step: int) -> Batch:
        seed = self._plan.seed * _LARGE_PRIME + step
        return Batch.of(samples, self._device, self._num_masks, seed)

    def _keep_up(self, progress: TrainingProgress) -> None:
        """Estimate and save where it is time to."""
        if self._is_time_to_estimate():
            self._estimate(progress)
        if self._step % self._plan.checkpoint_steps == 0:
            self._save()

    def _is_time_to_estimate(self) -> bool:
        """`estimates` times, evenly; the last time at the end."""
        before, now = (
            step * self._plan.estimates // self.num_steps for step in (self._step - 1, self._step)
        )
        return now > before

    def _learn(self, batch: Batch) -> tuple[float, int]:
        """One step; its loss, and from how many rows."""
        rate = self._plan.rate(self._step, self.num_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, LARGEST_GRADIENT)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return loss.item(), len(batch.rows)

    def _loss(self, batch: Batch) -> torch.Tensor:
        self._student.train()
        chance = torch.Generator().manual_seed(self._plan.seed * _LARGE_PRIME + self._step)
        hidden = hidden_rows(self._student, batch, self._dtype)
        own = log_probs_of(hidden, self._head, batch.top_ids, chance, self._plan.num_stand_ins)
        return Buckets.of(batch.top_log_probs, own).loss(self._plan.loss).mean()

    def _estimate(self, progress: TrainingProgress) -> None:
        self._student.train(False)
        found = estimate(self._student, self._head, self._held_out, self._dtype)
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._losses.clear()
        point = Point(self._step, self._num_rows, self._take_time(), loss, found)
        self._curve.append(asdict(point))
        progress.reached(point)

    def _take_time(self) -> float:
        """All seconds of training so far, with those that estimates and checkpoints took."""
        now = time.perf_counter()
        self._seconds += now - self._began
        self._began = now
        return self._seconds

    def _save(self) -> None:
        state = {
            "step": self._step,
            "num_rows": self._num_rows,
            "seconds": self._take_time(),
            "losses": self._losses,
            "curve": self._curve,
            "weights": trained_state(self._student),
            "optimiser": self._optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self._checkpoint, lambda file: file.write(buffer.getbuffer()))

    def _restore(self) -> None:
        """Take up the training where the checkpoint was made.

        Raises:
            ModelFileError: the checkpoint is damaged, or of another student.
        """
        try:
            state = torch.load(self._checkpoint, map_location=self._device, weights_only=True)
            weights = trained_state(self._student)
            with torch.no_grad():
                for name, weight in weights.items():
                    weight.copy_(state["weights"][name])
            self._optimiser.load_state_dict(state["optimiser"])
        except Exception as error:  # whatever unpickling raises
            raise ModelFileError(
                f"The checkpoint '{self._checkpoint}' is damaged or of another drafter; delete it "
                "to train from the start, or give another directory."
            ) from error
        self._step, self._num_rows = state["step"], state["num_rows"]
        self._seconds, self._losses = state["seconds"], state["losses"]
        self._curve = state["curve"]
