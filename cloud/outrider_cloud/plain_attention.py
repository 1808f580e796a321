"""Attention over a paged KV cache in plain PyTorch: one sequence after the other.

For any device and number format; copies the pages of a sequence together for every pass. The
version that the fast ones are tested against.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from outrider_cloud.paged_attention import KvShape
from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.target import CacheShape


class PlainAttention:
    """Pages of all layers; see `PagedAttention`.

    Args:
        kv: what the model keeps of a token.
        num_pages: of all sequences together.
        page_tokens: tokens that a page has room for.
        device: where they are.
        dtype: of keys and values.
    """

    def __init__(
        self,
        kv: KvShape,
        num_pages: int,
        page_tokens: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        numbers = (kv.num_layers, 2, num_pages * page_tokens, kv.num_kv_heads, kv.head_size)
        self._cache = torch.empty(numbers, device=device, dtype=dtype)
        per_page = self._cache.numel() * self._cache.element_size() // num_pages
        self._shape = CacheShape(num_pages, page_tokens, per_page)

    @property
    def shape(self) -> CacheShape:
        """See `PagedAttention.shape`."""
        return self._shape

    def begin(self, layout: PassLayout) -> None:
        """See `PagedAttention.begin`."""
        self._layout = layout
        self._slots = self._on_device(torch.from_numpy(layout.slots))
        self._slots_of = [self._slots_of_segment(segment) for segment in range(len(layout.lengths))]
        self._masks: dict[int | None, list[torch.Tensor]] = {}

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scaling: float,
        window: int | None,
    ) -> torch.Tensor:
        """See `PagedAttention.attend`."""
        keys, values = self._cache[layer]
        keys[self._slots] = key
        values[self._slots] = value
        if window not in self._masks:
            self._masks[window] = [self._mask(i, window) for i in range(len(self._slots_of))]
        begins = self._layout.begins.tolist()
        mixed = [
            scaled_dot_product_attention(
                query[begin:end].transpose(0, 1)[None],
                keys[slots].transpose(0, 1)[None],
                values[slots].transpose(0, 1)[None],
                attn_mask=mask,
                scale=scaling,
                enable_gqa=True,
            )[0].transpose(0, 1)
            for begin, end, slots, mask in zip(
                begins, begins[1:], self._slots_of, self._masks[window], strict=False
            )
        ]
        return torch.cat(mixed)

    def move(self, moves: Sequence[Move]) -> None:
        """See `PagedAttention.move`."""
        for move in moves:
            self._cache[:, :, move.destination] = self._cache[:, :, move.source]

    def _slots_of_segment(self, segment: int) -> torch.Tensor:
        """The slots of a segment's text and rows, [length + rows]."""
        layout, size = self._layout, self._shape.page_tokens
        end = layout.lengths[segment] + layout.begins[segment + 1] - layout.begins[segment]
        positions = torch.arange(int(end))
        pages = torch.from_numpy(layout.page_tables[segment])
        return self._on_device(pages[positions // size] * size + positions % size)

    def _mask(self, segment: int, window: int | None) -> torch.Tensor:
        """Which columns of text and rows each row sees, [rows, length + rows]."""
        layout = self._layout
        begin, end = layout.begins[segment], layout.begins[segment + 1]
        length, num_rows = int(layout.lengths[segment]), int(end - begin)
        at = layout.sees_begins[segment]
        own = torch.from_numpy(layout.sees[at : at + num_rows**2]).reshape(num_rows, num_rows)
        seen = torch.cat([torch.ones(num_rows, length, dtype=torch.bool), own], dim=1)
        if window is not None:
            rows = torch.from_numpy(layout.positions[begin:end])
            columns = torch.cat([torch.arange(length), rows])
            seen &= columns[None, :] > rows[:, None] - window
        return self._on_device(seen)

    def _on_device(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._cache.device)
