"""Faults of an accelerator that end all its work, told from those of a single pass.

After such a fault every call fails, whomever it is for: the process has to begin anew. Knows
nothing of what is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from outrider_cloud.target import DeviceLostError


@contextmanager
def device_faults_told() -> Iterator[None]:
    """Raise a `DeviceLostError` for what PyTorch raises when a device has failed.

    That it has no memory left is no such fault: it can still compute something smaller.
    """
    try:
        yield
    except torch.AcceleratorError as error:
        raise DeviceLostError(
            "The device that computes the model has failed, and can compute nothing more; look "
            f"into the log of its driver, and start the verifier again. It says: {error}"
        ) from error
