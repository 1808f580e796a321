"""How a forward pass is started such that the host can go on meanwhile.

On a CPU a thread computes it: it holds the interpreter only between the operations of the model. A
GPU has a queue of its own, to which the host adds the pass without waiting for anything. Knows
nothing of what a pass computes.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from outrider_cloud.batched_choice import TensorLogits
from outrider_cloud.device_faults import device_faults_told
from outrider_cloud.target import RunningPass

Compute = Callable[[], Tensor]
"""Computes the logits of a pass, [wanted, vocab]."""


class Launcher(Protocol):
    """Starts passes, one after the other."""

    def launch(self, compute: Compute) -> RunningPass:
        """Start a pass; called when the one before has its result."""
        ...


def launcher_for(device: torch.device) -> Launcher:
    """The way to start passes on a device."""
    return StreamLauncher(device) if device.type == "cuda" else ThreadLauncher()


class ThreadLauncher:
    """Computes passes on a thread, always the same: it keeps its helpers for parallel loops."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outrider-pass")

    def launch(self, compute: Compute) -> RunningPass:
        """See `Launcher.launch`."""
        return self._thread.submit(_logits, compute)


class StreamLauncher:
    """Queues passes on a CUDA stream of their own.

    Not run by the tests, which have no GPU.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def launch(self, compute: Compute) -> RunningPass:
        """See `Launcher.launch`."""
        with device_faults_told():
            return self._queue(compute)

    def _queue(self, compute: Compute) -> RunningPass:
        # What was chosen and moved since the last pass comes first. So the memory of its logits,
        # which belongs to this stream, is not used again before they have been read.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            return _QueuedPass(_logits(compute), self._stream)


class _QueuedPass:
    """A pass on a stream; its logits may be used in the order of streams, before they are there."""

    def __init__(self, logits: TensorLogits, stream: torch.cuda.Stream) -> None:
        self._logits = logits
        self._stream = stream

    def result(self) -> TensorLogits:
        """See `RunningPass.result`. The device waits here, not the host.

        Unless there is nothing to read, so that nobody would wait: chunks of prompts would be
        queued without end then, before whoever comes next, and seem to take no time.
        """
        with device_faults_told():
            torch.cuda.current_stream().wait_stream(self._stream)
            if not self._logits.num_rows:
                self._stream.synchronize()
        return self._logits


@torch.inference_mode()
def _logits(compute: Compute) -> TensorLogits:
    return TensorLogits(compute())
