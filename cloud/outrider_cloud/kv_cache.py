"""The KV cache of one sequence, shortened without copying.

Keys and values stay where they were written; a pass writes behind the text, and what it wrote
becomes text or is written over. Buffers grow by doubling, so that memory is proportional to the
tokens held. Knows nothing of models or of what the tokens mean.
"""

from collections.abc import Sequence
from typing import Final

import torch

FIRST_CAPACITY: Final = 64


class KvCache:
    """Keys and values of all layers of one sequence, each [kv_heads, capacity, head_size].

    Args:
        num_layers: of the model.
    """

    def __init__(self, num_layers: int) -> None:
        self._keys: list[torch.Tensor | None] = [None] * num_layers
        self._values: list[torch.Tensor | None] = [None] * num_layers
        self._length = 0

    @property
    def length(self) -> int:
        """How many positions are text."""
        return self._length

    def append(
        self, layer: int, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the states of a pass behind the text of one layer.

        Args:
            layer: which.
            keys: [kv_heads, rows, head_size].
            values: the same.

        Returns:
            Keys and values of text and rows together, [kv_heads, length + rows, head_size]; views.
        """
        return self._write(self._keys, layer, keys), self._write(self._values, layer, values)

    def _write(
        self, buffers: list[torch.Tensor | None], layer: int, states: torch.Tensor
    ) -> torch.Tensor:
        end = self._length + states.shape[1]
        buffer = buffers[layer] = _with_room(buffers[layer], states, self._length, end)
        buffer[:, self._length : end] = states
        return buffer[:, :end]

    @torch.inference_mode()
    def keep(self, offsets: Sequence[int]) -> None:
        """Behind the text keep the rows at these offsets, in this order, as text."""
        end = self._length + len(offsets)
        if list(offsets) != list(range(len(offsets))):  # a path through branches
            rows = torch.tensor(offsets) + self._length
            for buffer in (*self._keys, *self._values):
                if buffer is not None:
                    buffer[:, self._length : end] = buffer[:, rows]
        self._length = end


def _with_room(
    buffer: torch.Tensor | None, states: torch.Tensor, length: int, end: int
) -> torch.Tensor:
    """A buffer with at least `end` positions whose first `length` are those of `buffer`."""
    capacity = 0 if buffer is None else buffer.shape[1]
    if buffer is not None and end <= capacity:
        return buffer
    heads, _, size = states.shape
    grown = states.new_empty((heads, max(end, 2 * capacity, FIRST_CAPACITY), size))
    if buffer is not None:
        grown[:, :length] = buffer[:, :length]
    return grown
