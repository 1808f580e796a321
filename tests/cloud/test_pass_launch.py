"""How passes are started: on a thread, or on a CUDA stream, of which there are fakes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from outrider_cloud.pass_launch import StreamLauncher, ThreadLauncher, launcher_for

LONGEST_WAIT_S = 30
LOGITS = torch.eye(3)


def test_a_pass_on_the_cpu_is_computed_while_its_owner_goes_on() -> None:
    gate = threading.Event()

    def compute() -> Tensor:
        assert gate.wait(LONGEST_WAIT_S), "whoever launched it never went on"
        return LOGITS

    running = launcher_for(torch.device("cpu")).launch(compute)
    gate.set()  # a launch that computes would not come here
    assert running.result().numpy().tolist() == LOGITS.tolist()


def test_passes_on_the_cpu_are_computed_by_one_thread_without_gradients() -> None:
    seen: list[tuple[str, bool]] = []

    def compute() -> Tensor:
        seen.append((threading.current_thread().name, torch.is_inference_mode_enabled()))
        return LOGITS

    launcher = ThreadLauncher()
    for _ in range(3):
        launcher.launch(compute).result()
    assert len(set(seen)) == 1
    assert seen[0][0] != threading.current_thread().name
    assert seen[0][1]


def test_a_pass_that_fails_on_the_cpu_says_so_when_it_is_waited_for() -> None:
    def compute() -> Tensor:
        raise MemoryError("no room")

    launcher = ThreadLauncher()
    running = launcher.launch(compute)
    with pytest.raises(MemoryError, match="no room"):
        running.result()
    assert launcher.launch(lambda: LOGITS).result().num_rows == 3


class FakeStream:
    """A CUDA stream that only notes, in a common list, for whom it waits."""

    def __init__(self, name: str, history: list[str]) -> None:
        self.name = name
        self._history = history

    def wait_stream(self, other: "FakeStream") -> None:
        self._history.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        self._history.append(f"the host waits for {self.name}")


def fake_streams(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A stream of a launcher's own, beside the current one; what becomes of them."""
    history: list[str] = []
    current, own = FakeStream("current", history), FakeStream("own", history)

    @contextmanager
    def on_stream(stream: FakeStream) -> Iterator[None]:
        history.append(f"on {stream.name}")
        yield
        history.append(f"off {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda _device: own)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "stream", on_stream)

    return history


def test_a_pass_on_a_gpu_comes_after_what_was_queued_and_before_who_reads_its_logits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = fake_streams(monkeypatch)

    def compute() -> Tensor:
        history.append("computes")
        return LOGITS

    running = StreamLauncher(torch.device("cuda")).launch(compute)
    assert history == ["own waits for current", "on own", "computes", "off own"]
    assert running.result().num_rows == 3
    assert history[4:] == ["current waits for own"]


def test_a_pass_on_a_gpu_whose_logits_nobody_reads_is_over_when_its_result_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = fake_streams(monkeypatch)
    running = StreamLauncher(torch.device("cuda")).launch(lambda: LOGITS[:0])
    assert "the host waits for own" not in history
    assert running.result().num_rows == 0
    assert history[-1] == "the host waits for own"
