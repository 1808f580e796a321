"""Linear layers whose weights are laid out for few rows, on CPUs.

PyTorch's own linear layer calls a matrix product that is made for many rows: on a CPU, four rows
cost it several times as much as one. oneDNN's inner product over weights that were reordered once
reads the weights at about the speed of the memory, whatever the few rows are. These are the
operators that PyTorch's compiler uses when it freezes a model. Knows nothing of models.
"""

from collections.abc import Callable
from typing import Final

import torch
from torch import nn

ROWS_IN_MIND: Final = 8
"""For how many rows oneDNN is asked to lay the weights out; other numbers are served as well."""

SMALLEST_WEIGHT: Final = 1 << 18
"""Smaller matrices stay as they are: there the call costs more than the product."""

Pack = Callable[[nn.Linear], nn.Module]
"""Makes the replacement of a linear layer, or returns the layer itself."""


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


def pack(linear: nn.Linear) -> nn.Module:
    """A layer that computes the same from reordered weights.

    Returns:
        The given layer where it would not pay, or where this PyTorch has no such operator.
    """
    return PackedLinear(linear) if gains(linear) and _is_possible() else linear


def pack_linears(model: nn.Module, pack: Pack = pack) -> int:
    """Replace a model's linear layers where that makes passes of few rows faster.

    Args:
        model: any.
        pack: makes the replacement of a layer, or returns the layer.

    Returns:
        How many were replaced.
    """
    num_replaced = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and (packed := pack(child)) is not child:
                setattr(parent, name, packed)
                num_replaced += 1
    return num_replaced


def gains(linear: nn.Linear) -> bool:
    """Whether a layer is of the kind that other kernels make faster: large, fp32, on the CPU."""
    return (
        linear.weight.device.type == "cpu"
        and linear.weight.dtype == torch.float32
        and linear.weight.numel() >= SMALLEST_WEIGHT
    )


def _is_possible() -> bool:
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
