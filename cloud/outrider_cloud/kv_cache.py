"""A KV cache for one sequence that is shortened without copying.

Plugs into Transformers' cache interface. Keys and values stay where they were written; a pass
writes behind them, truncation only lowers the length, and buffers grow by doubling, so that
memory is proportional to the tokens held. Knows nothing of what the tokens mean.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

INITIAL_POSITIONS: Final = 64


class TruncatableLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, [1, kv_heads, capacity, head_size], of which `length` count."""

    is_sliding = False
    keys: torch.Tensor  # None only before the first states arrive
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Make buffers with the device, type and head sizes of the first states that arrive."""
        self.keys = _buffer_like(key_states, INITIAL_POSITIONS)
        self.values = _buffer_like(value_states, INITIAL_POSITIONS)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new states, [1, kv_heads, rows, head_size], behind the text; views of it all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[-2]
        self._grow_to(end)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, start: int, offsets: Sequence[int]) -> None:
        """Behind the first `start` positions keep those at these offsets, in this order."""
        end = start + len(offsets)
        if list(offsets) != list(range(len(offsets))):  # a path through branches
            kept = torch.tensor(offsets, device=self.keys.device) + start
            self.keys[:, :, start:end] = self.keys[:, :, kept]
            self.values[:, :, start:end] = self.values[:, :, kept]
        self.length = end

    def get_seq_length(self) -> int:
        """How many positions count."""
        return self.length

    def get_max_length(self) -> int:
        """No maximum of its own."""
        return -1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The length that a mask must cover, and where it begins."""
        return self.length + query_length, 0

    def _grow_to(self, positions: int) -> None:
        capacity = self.keys.shape[-2]
        if positions <= capacity:
            return
        new_capacity = max(positions, 2 * capacity)
        self.keys = _grown(self.keys, self.length, new_capacity)
        self.values = _grown(self.values, self.length, new_capacity)


class TruncatableCache(Cache):
    """The KV cache of one sequence, for models whose every layer attends to the whole text."""

    def __init__(self, num_layers: int) -> None:
        self._truncatable = [TruncatableLayer() for _ in range(num_layers)]
        super().__init__(layers=list(self._truncatable))

    @property
    def length(self) -> int:
        """How many positions count."""
        return self._truncatable[0].length

    def keep(self, start: int, offsets: Sequence[int]) -> None:
        """Behind the first `start` positions keep those at these offsets, in this order."""
        for layer in self._truncatable:
            layer.keep(start, offsets)


def _buffer_like(states: torch.Tensor, positions: int) -> torch.Tensor:
    batch, heads, _, size = states.shape
    return states.new_empty((batch, heads, positions, size))


def _grown(buffer: torch.Tensor, length: int, positions: int) -> torch.Tensor:
    grown = _buffer_like(buffer, positions)
    grown[:, :, :length] = buffer[:, :, :length]
    return grown
