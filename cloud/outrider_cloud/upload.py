"""Arrays of the host become tensors on a device, without waiting for what the device has to do."""

from typing import Any

import torch
from numpy.typing import NDArray


def upload(array: NDArray[Any], device: torch.device) -> torch.Tensor:
    """A tensor of an array: a copy on an accelerator, the array's own memory on the CPU.

    On CUDA it goes through pinned memory, which PyTorch reuses only when the copy has been made.
    """
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
