"""Attention for a pass that packs rows of many sequences, inside Transformers' own models.

All other layers see one long row of tokens; here each segment attends to its own KV cache and, by
its tree mask, to its own rows. Nothing is padded and nothing of the caches is copied. Registered
with Transformers' attention interface under `NAME`. Knows nothing of sessions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from outrider_cloud.kv_cache import KvCache
from outrider_cloud.target import CACHED_TEXT, Rows

NAME: Final = "outrider_packed"


@dataclass(slots=True)
class PackedSegment:
    """The rows of one sequence within a pass.

    Attributes:
        cache: the sequence's.
        rows: tokens and parents.
        begin: where the segment begins among all rows of the pass.
        positions: where each row stands in the text that its path makes, [rows].
    """

    cache: KvCache
    rows: Rows
    begin: int
    positions: NDArray[np.int64] = field(init=False)
    _masks: dict[tuple[int | None, int], torch.Tensor | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.positions = np.array(self.rows.depths(), dtype=np.int64) + self.cache.length

    @property
    def end(self) -> int:
        """Where the next segment begins."""
        return self.begin + len(self.rows.tokens)

    def mask(self, like: torch.Tensor, window: int | None, group: int) -> torch.Tensor | None:
        """What is added to the scores; the same for all layers with the same window.

        Returns:
            [group * rows, length + rows], the same for each query head of a group; None where
            nothing is hidden.
        """
        key = window, group
        if key not in self._masks:
            mask = self._make_mask(like, window)
            self._masks[key] = None if mask is None else mask.repeat(group, 1)
        return self._masks[key]

    def _make_mask(self, like: torch.Tensor, window: int | None) -> torch.Tensor | None:
        positions = self.positions
        seen = np.ones((len(positions), self.cache.length + len(positions)), dtype=bool)
        seen[:, self.cache.length :] = ancestry(self.rows.parents)
        if window is not None:  # a row sees itself and the window - 1 positions before it
            key_positions = np.concatenate([np.arange(self.cache.length), positions])
            seen &= key_positions[None, :] > positions[:, None] - window
        if seen.all():
            return None
        hidden = torch.from_numpy(~seen).to(like.device)
        return torch.zeros(seen.shape, dtype=like.dtype, device=like.device).masked_fill_(
            hidden, float("-inf")
        )


def ancestry(parents: Sequence[int]) -> NDArray[np.bool_]:
    """Which rows each row sees: itself and its ancestors; [rows, rows]."""
    sees = np.eye(len(parents), dtype=bool)
    for row, parent in enumerate(parents):
        if parent != CACHED_TEXT:
            sees[row] |= sees[parent]
    return sees


def packed_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed: Sequence[PackedSegment],
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as Transformers calls it.

    Args:
        module: the attention layer; its `layer_idx` counts.
        query: [1, heads, rows, head_size], all rows of the pass.
        key: [1, kv_heads, rows, head_size].
        value: the same.
        attention_mask: not used; segments make their own.
        packed: the segments, in the order of their rows.
        scaling: of the scores; None is 1 / sqrt(head_size).
        sliding_window: how many positions a row sees, itself included; None is all.

    Returns:
        [1, rows, heads, head_size], and no weights.
    """
    mixed = torch.cat(
        [
            _attend(
                segment,
                query[0, :, segment.begin : segment.end],
                *segment.cache.append(
                    module.layer_idx,
                    key[0, :, segment.begin : segment.end],
                    value[0, :, segment.begin : segment.end],
                ),
                scaling,
                sliding_window,
            )
            for segment in packed
        ],
        dim=1,
    )
    return mixed.transpose(0, 1)[None], None


def _attend(
    segment: PackedSegment,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """Attention of one segment, [heads, rows, head_size].

    Query heads that share a key head are laid behind one another as more rows, so that keys and
    values need not be repeated for them (grouped-query attention, arXiv:2305.13245).
    """
    heads, num_rows, size = query.shape
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    mixed = scaled_dot_product_attention(
        query.reshape(1, kv_heads, group * num_rows, size),
        keys[None],
        values[None],
        attn_mask=segment.mask(query, window, group),
        scale=scaling,
    )
    return mixed.reshape(heads, num_rows, values.shape[-1])


AttentionInterface.register(NAME, packed_attention)
