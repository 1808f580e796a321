"""A device that has failed ends the engine; one that has no room for a pass does not."""

import threading
from collections.abc import Sequence

import pytest
import torch
from fake_target import FakeTarget, LatePass
from test_batching_engine import Client, an_open, make_engine

from outrider_cloud.batched_choice import TensorLogits
from outrider_cloud.choice import ArrayLogits, ChoicePoint
from outrider_cloud.device_faults import device_faults_told
from outrider_cloud.pass_launch import StreamLauncher
from outrider_cloud.target import DeviceLostError, Segment
from outrider_common.acceptance import ExactRule
from outrider_common.errors import UnavailableError
from outrider_common.sampling import SamplingParams

LONGEST_WAIT_S = 30


class LostLogits(ArrayLogits):
    """Those of a device that has failed before they were read."""

    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        raise DeviceLostError("gone")


class LostTarget(FakeTarget):
    """A device that fails with its first pass.

    Args:
        when: at the launch, while it is computed, or when it is read.
    """

    def __init__(self, when: str) -> None:
        super().__init__()
        self.num_begun = 0
        self._when = when

    def begin(self, segments: Sequence[Segment]) -> LatePass:
        self.num_begun += 1
        if self._when == "launched":
            raise DeviceLostError("gone")
        return super().begin(segments)

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        if self._when == "computed":
            raise DeviceLostError("gone")
        return LostLogits(super().forward(segments).numpy())


@pytest.mark.parametrize("when", ["launched", "computed", "read"])
def test_a_device_that_has_failed_ends_the_engine_and_tells_everyone_so(when: str) -> None:
    target = LostTarget(when)
    engine = make_engine(target)
    clients = [Client(engine, an_open([token])) for token in (1, 2)]
    failed = threading.Event()
    engine.start(on_failure=failed.set)
    assert failed.wait(LONGEST_WAIT_S)
    assert all(isinstance(client.events[-1], UnavailableError) for client in clients)
    assert target.num_begun == 1  # nobody's part is tried again
    engine.stop()


def test_what_says_that_a_device_has_failed_is_told_from_what_only_lacks_memory() -> None:
    with pytest.raises(DeviceLostError, match="start the verifier again"), device_faults_told():
        raise torch.AcceleratorError("an illegal memory access was encountered")
    with pytest.raises(torch.OutOfMemoryError), device_faults_told():
        raise torch.OutOfMemoryError("no room")


class Failing:
    """A tensor on a device that has failed."""

    device = torch.device("cuda")

    def __getattr__(self, name: str) -> object:
        raise torch.AcceleratorError("an illegal memory access was encountered")


def test_a_fault_is_told_wherever_the_device_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda _: Failing().pinned)
    logits = TensorLogits(Failing())  # type: ignore[arg-type]
    point = ChoicePoint(0, 1, ExactRule(SamplingParams()))
    with pytest.raises(DeviceLostError):
        logits.choose([point])
    with pytest.raises(DeviceLostError):
        logits.runner_ups([0], [0], 1)
    with pytest.raises(DeviceLostError):
        logits.logprobs([0], [0], 1)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: Failing())
    monkeypatch.setattr(torch.cuda, "current_stream", Failing)
    with pytest.raises(DeviceLostError):
        StreamLauncher(torch.device("cuda")).launch(lambda: torch.eye(3))
