"""Training: what changes, what does not, and what an interruption does to it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from outrider_common.errors import ModelFileError
from outrider_distill.losses import Loss
from outrider_distill.samples import Sample
from outrider_distill.student import State, build_student, trained_state
from outrider_distill.training import Point, Trainer, TrainingPlan

PLAN = TrainingPlan(
    learning_rate=3e-3,
    batch_tokens=256,
    epochs=3,
    checkpoint_steps=7,
    estimates=3,
    seed=2,
    num_stand_ins=40,
)


class Watcher:
    def __init__(self) -> None:
        self.began: list[tuple[int, int]] = []
        self.losses: list[float] = []
        self.points: list[Point] = []

    def begin(self, step: int, num_steps: int) -> None:
        self.began.append((step, num_steps))

    def stepped(self, num_rows: int, loss: float) -> None:
        self.losses.append(loss)

    def reached(self, point: Point) -> None:
        self.points.append(point)


class Training:
    """Makes trainers of the same student, each from its beginning."""

    def __init__(self, target: Any, samples: Sequence[Sample], directory: Path) -> None:
        self._target, self._samples, self._directory = target, samples, directory

    def trainer(self, name: str, plan: TrainingPlan = PLAN) -> Trainer:
        student = build_student(self._target, [0, 3])
        path = self._directory / f"{name}.pt"
        return Trainer(student, self._samples[8:], self._samples[:8], plan, path)

    def trained(self, name: str, plan: TrainingPlan = PLAN) -> State:
        trainer = self.trainer(name, plan)
        trainer.run(Watcher())
        return trained_state(trainer.student)


@pytest.fixture
def training(tiny_model: Any, tiny_samples: Sequence[Sample], tmp_path: Path) -> Training:
    torch.set_num_threads(1)
    return Training(tiny_model, tiny_samples, tmp_path)


def are_equal(one: State, other: State) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_loss_falls_and_the_acceptance_rises(
    training: Training, loss: Loss, dtype: str
) -> None:
    watcher = Watcher()
    trainer = training.trainer("run", replace(PLAN, loss=loss, dtype=dtype, epochs=8))
    trainer.run(watcher)
    first, last = watcher.points[0].estimate, watcher.points[-1].estimate
    assert sum(watcher.losses[-8:]) < 0.7 * sum(watcher.losses[:8])
    assert last.kl < first.kl
    assert last.sampled > first.sampled


def test_only_the_layers_and_the_last_norm_are_trained(training: Training, tiny_model: Any) -> None:
    trainer = training.trainer("run")
    before = {name: w.clone() for name, w in trainer.student.state_dict().items()}
    trainer.run(Watcher())
    after = trainer.student.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == set(trained_state(trainer.student))
    embedding = tiny_model.model.embed_tokens.weight
    assert torch.equal(after["model.embed_tokens.weight"], embedding)


@pytest.mark.parametrize("stops", [(7,), (3, 20), (1, 2, 30)])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    training: Training, stops: tuple[int, ...]
) -> None:
    straight = training.trainer("straight")
    straight.run(Watcher())
    for stop in stops:
        training.trainer("stopped").run(Watcher(), stop)
    watcher = Watcher()
    again = training.trainer("stopped")
    again.run(watcher)
    assert watcher.began == [(stops[-1], straight.num_steps)]
    assert are_equal(trained_state(again.student), trained_state(straight.student))
    times = ("seconds",)
    without = [
        [{k: v for k, v in point.items() if k not in times} for point in trainer.curve]
        for trainer in (straight, again)
    ]
    assert without[0] == without[1]


def test_a_training_that_was_killed_goes_on_from_its_last_checkpoint(training: Training) -> None:
    class Killed(Watcher):
        def stepped(self, num_rows: int, loss: float) -> None:
            super().stepped(num_rows, loss)
            if len(self.losses) == 17:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.trainer("killed").run(Killed())
    again = training.trainer("killed")
    assert again.step == 14
    again.run(Watcher())
    assert are_equal(trained_state(again.student), training.trained("straight"))


def test_a_training_that_is_done_does_nothing_more(training: Training) -> None:
    done = training.trained("run")
    watcher = Watcher()
    again = training.trainer("run")
    again.run(watcher)
    assert watcher.losses == []
    assert are_equal(trained_state(again.student), done)


def test_the_seed_decides_the_result(training: Training) -> None:
    one, same = training.trained("one"), training.trained("same")
    other = training.trained("other", replace(PLAN, seed=3))
    assert are_equal(one, same)
    assert not are_equal(one, other)


def test_the_curve_has_the_start_the_end_and_what_lies_between(training: Training) -> None:
    watcher = Watcher()
    trainer = training.trainer("run")
    trainer.run(watcher)
    steps = [point["step"] for point in trainer.curve]
    assert steps[0] == 0
    assert steps[-1] == trainer.num_steps
    assert len(steps) == 1 + PLAN.estimates
    assert steps == [point.step for point in watcher.points]
    assert trainer.curve[0]["loss"] is None
    assert trainer.curve[-1]["num_rows"] > trainer.curve[1]["num_rows"] > 0


def test_a_damaged_checkpoint_is_named(training: Training, tmp_path: Path) -> None:
    training.trainer("run").run(Watcher(), 3)
    path = tmp_path / "run.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"run\.pt' is damaged"):
        training.trainer("run")


def test_the_rate_rises_and_then_falls() -> None:
    plan = TrainingPlan(learning_rate=2.0, warmup_steps=10)
    rates = [plan.rate(step, 1000) for step in range(1000)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates[0] < 0.11 * 2
    assert max(rates) < 2.0
    assert rates[-1] < 0.06 * 2
    assert rates[10:] == sorted(rates[10:], reverse=True)
