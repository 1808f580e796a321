"""Linear layers whose weights are laid out for few rows, on CPUs.

PyTorch's own linear layer calls a matrix product that is made for many rows: on a CPU, four rows
cost it several times as much as one. oneDNN's inner product over weights that were reordered once
reads the weights at about the speed of the memory, whatever the few rows are. These are the
operators that PyTorch's compiler uses when it freezes a model. Knows nothing of models.
"""

from typing import Final, TypeGuard

import torch
from torch import nn

ROWS_IN_MIND: Final = 8
"""For how many rows oneDNN is asked to lay the weights out; other numbers are served as well."""

SMALLEST_WEIGHT: Final = 1 << 18
"""Smaller matrices stay as they are: there the call costs more than the product."""


class PackedLinear(nn.Module):
    """`y = x W^T + b` with reordered weights.

    Args:
        linear: the layer that it replaces; fp32, on the CPU.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_IN_MIND)
        bias: torch.Tensor | None = linear.bias
        self._bias = None if bias is None else bias.detach()
        self.in_features = linear.in_features
        self.out_features = linear.out_features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., in_features] to [..., out_features]."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._packed, self._bias, "none", [], ""
        )
        return y


def pack_linears(model: nn.Module) -> int:
    """Replace a model's linear layers where that makes passes of few rows faster.

    Returns:
        How many were replaced; 0 where this PyTorch or this device has no such operator.
    """
    if not _is_possible():
        return 0
    num_replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _gains(child):
                setattr(parent, name, PackedLinear(child))
                num_replaced += 1
    return num_replaced


def _gains(module: nn.Module) -> TypeGuard[nn.Linear]:
    return (
        type(module) is nn.Linear
        and module.weight.device.type == "cpu"
        and module.weight.dtype == torch.float32
        and module.weight.numel() >= SMALLEST_WEIGHT
    )


def _is_possible() -> bool:
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
