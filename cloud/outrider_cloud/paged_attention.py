"""The seam between Transformers' own models and attention over a paged KV cache.

All other layers of a model see one long row of tokens; the attention of every layer is one call of
`attend`, for the rows of all sequences. Registered with Transformers' attention interface under
`NAME`. Knows nothing of sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from transformers import AttentionInterface

from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.target import CacheShape

NAME: Final = "outrider_paged"


@dataclass(frozen=True, slots=True)
class KvShape:
    """What a model keeps of a token.

    Attributes:
        num_layers: of the model.
        num_kv_heads: of one layer.
        head_size: numbers of a key, and of a value.
    """

    num_layers: int
    num_kv_heads: int
    head_size: int


class PagedAttention(Protocol):
    """Owns the pages of all layers, and attends over them."""

    @property
    def shape(self) -> CacheShape:
        """How many pages there are, and how large they are."""
        ...

    def begin(self, layout: PassLayout) -> None:
        """Start a pass."""
        ...

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        """Cache the keys and values of a pass in one layer, and attend.

        Args:
            layer: which.
            query: [rows, heads, head_size].
            key: [rows, kv_heads, head_size].
            value: the same.
            scaling: of the scores.
            window: how many positions a row sees, itself included; None is all.

        Returns:
            [rows, heads, head_size].
        """
        ...

    def move(self, moves: Sequence[Move]) -> None:
        """Copy keys and values of all layers, one slot after the other."""
        ...


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    paged: PagedAttention,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as Transformers calls it: [1, heads, rows, size] in, [1, rows, heads, size] out."""
    mixed = paged.attend(
        module.layer_idx,
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        sliding_window,
    )
    return mixed[None], None


AttentionInterface.register(NAME, _attention)
