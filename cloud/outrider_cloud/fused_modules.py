"""Parts of a Transformers model that take fewer and larger operators, for passes of few rows.

In such passes the many small operators between the matrix products cost as much as the attention.
Here stand replacements for three modules that most decoders share, and for the rotary embedding
between them. Each is built from the module that it replaces; whether it really computes the same is
for `speed_up` to find out. Knows nothing of caches or of any model's own code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from outrider_cloud.packed_linear import Pack, pack


class AttentionLayer(Protocol):
    """What is read of an attention layer that is to be replaced."""

    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    o_proj: nn.Linear
    config: Any
    layer_idx: int
    head_dim: int


class GatedMlpLayer(Protocol):
    """What is read of a gated feed-forward layer that is to be replaced."""

    gate_proj: nn.Linear
    up_proj: nn.Linear
    down_proj: nn.Linear
    act_fn: Callable[[torch.Tensor], torch.Tensor]


class RmsNorm(nn.Module):
    """`y = w x / sqrt(mean(x^2) + eps)` (arXiv:1910.07467, equation 4) in four operators.

    Computed as `x (w sqrt(n)) / hypot(|x|, sqrt(n eps))`.

    Args:
        scale: w, [..., size].
        eps: added to the mean of the squares.
    """

    _scale: torch.Tensor
    _floor: torch.Tensor

    def __init__(self, scale: torch.Tensor, eps: float) -> None:
        super().__init__()
        size = scale.shape[-1]
        self.scale: Final = scale
        self.eps: Final = eps
        self.register_buffer("_scale", scale * math.sqrt(size), persistent=False)
        self.register_buffer("_floor", scale.new_tensor(math.sqrt(size * eps)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] to the same."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return torch.mul(x, self._scale).div_(torch.hypot(length, self._floor))


class GatedMlp(nn.Module):
    """`y = (act(x G^T) * (x U^T)) D^T` (arXiv:2002.05202, section 2) with G and U in one product.

    Args:
        layer: the one that it replaces.
        pack: makes its linear layers fast.
    """

    def __init__(self, layer: GatedMlpLayer, pack: Pack = pack) -> None:
        super().__init__()
        self._size: Final = layer.gate_proj.out_features
        self._gate_and_up = pack(stacked([layer.gate_proj, layer.up_proj]))
        self._activate = layer.act_fn
        self._down = pack(layer.down_proj)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., hidden] to the same."""
        both: torch.Tensor = self._gate_and_up(x)
        gate, up = both[..., : self._size], both[..., self._size :]
        y: torch.Tensor = self._down(self._activate(gate).mul_(up))
        return y


class PairedRotary(nn.Module):
    """A rotary embedding as complex factors, for heads whose pairs lie side by side.

    Rotary embedding turns pairs of a head's elements by an angle (arXiv:2104.09864, equation 34):
    one complex product, where a pair is a complex number.

    Args:
        rotary: the module that it replaces, which makes cosines and sines.
    """

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self._rotary = rotary

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Factors, [batch, rows, 1, head_size / 2], for what the replaced module is called with."""
        return rotation(*self._rotary(*args, **kwargs))


class GroupedAttention(nn.Module):
    """Attention with one product for queries, keys and values and one for the rotary embedding.

    Its queries and keys have the two elements of a rotary pair side by side, which no score
    notices: query and key are permuted alike.

    Args:
        layer: the one that it replaces.
        head_norms: those of queries and keys, where the layer has them.
        arguments: what the layer hands to the attention function besides tensors.
        pack: makes its linear layers fast.
    """

    def __init__(
        self,
        layer: AttentionLayer,
        head_norms: tuple[RmsNorm, RmsNorm] | None,
        arguments: Mapping[str, Any],
        pack: Pack = pack,
    ) -> None:
        super().__init__()
        self.config = layer.config
        self.layer_idx = layer.layer_idx
        self.is_causal = getattr(layer, "is_causal", True)
        self._head_size: Final = layer.head_dim
        self._num_heads: Final = layer.q_proj.out_features // layer.head_dim
        self._num_kv_heads: Final = layer.k_proj.out_features // layer.head_dim
        self.num_key_value_groups = self._num_heads // self._num_kv_heads
        self._num_turned: Final = self._num_heads + self._num_kv_heads
        self._arguments = dict(arguments)
        self._project = pack(self._paired_projection(layer))
        self._head_norm = None if head_norms is None else self._paired_norm(*head_norms)
        self._output = pack(layer.o_proj)

    def _paired_projection(self, layer: AttentionLayer) -> nn.Linear:
        """One layer for queries, keys and values, with the outputs of the first two in pairs."""
        whole = stacked([layer.q_proj, layer.k_proj, layer.v_proj])
        order = torch.arange(whole.out_features).view(-1, self._head_size)
        order[: self._num_turned] = order[: self._num_turned, paired(self._head_size)]
        return _rearranged(whole, order.flatten())

    def _paired_norm(self, of_queries: RmsNorm, of_keys: RmsNorm) -> RmsNorm:
        """One norm for the heads of queries and keys together; its scale is [heads, head_size]."""
        scales = torch.cat(
            [
                of_queries.scale.expand(self._num_heads, -1),
                of_keys.scale.expand(self._num_kv_heads, -1),
            ]
        )
        return RmsNorm(scales[:, paired(self._head_size)], of_queries.eps)

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As Transformers calls an attention layer.

        Args:
            hidden_states: [batch, rows, hidden].
            position_embeddings: from `PairedRotary`.
            attention_mask: for the attention function.
            past_key_values: a cache of Transformers' kind, or None.
            **kwargs: for the attention function.

        Returns:
            [batch, rows, hidden], and what the attention function says of its weights.
        """
        query, key, value = self._states(hidden_states, position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        mixed, weights = attend(
            self, query, key, value, attention_mask, **self._arguments, **kwargs
        )
        return self._output(mixed.reshape(*hidden_states.shape[:-1], -1)), weights

    def _states(
        self, hidden_states: torch.Tensor, factors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, [batch, heads, rows, head_size] each."""
        whole = self._project(hidden_states).unflatten(-1, (-1, self._head_size))
        turned = whole[..., : self._num_turned, :]
        if self._head_norm is not None:
            turned = self._head_norm(turned)
        turned.view(torch.complex64).mul_(factors)
        query, key = turned.transpose(1, 2).split([self._num_heads, self._num_kv_heads], dim=1)
        return query, key, whole[..., self._num_turned :, :].transpose(1, 2)


def rotation(cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Complex factors out of what Transformers' rotary modules return.

    Args:
        cosines: [batch, rows, head_size], the second half the same as the first.
        sines: the same.

    Returns:
        [batch, rows, 1, head_size / 2].
    """
    half = cosines.shape[-1] // 2
    return torch.complex(cosines[..., :half], sines[..., :half]).unsqueeze(-2)


def paired(size: int) -> torch.Tensor:
    """The order that lays the halves of a head side by side: 0, size / 2, 1, size / 2 + 1, ..."""
    return torch.arange(size).view(2, -1).T.flatten()


def stacked(layers: Sequence[nn.Linear]) -> nn.Linear:
    """One layer whose outputs are those of several, one behind the other; a copy."""
    weight = torch.cat([layer.weight.detach() for layer in layers])
    biases: list[torch.Tensor | None] = [layer.bias for layer in layers]
    known = [bias.detach() for bias in biases if bias is not None]
    return _linear(weight, torch.cat(known) if known else None)


def _rearranged(layer: nn.Linear, order: torch.Tensor) -> nn.Linear:
    """The same layer with its outputs in another order."""
    bias: torch.Tensor | None = layer.bias
    return _linear(layer.weight.detach()[order], None if bias is None else bias.detach()[order])


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer
