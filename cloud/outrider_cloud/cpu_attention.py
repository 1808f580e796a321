"""Attention over a paged KV cache on a CPU, in fp32: one compiled call for all rows of a pass.

Reads the pages where they are, shared ones too; nothing is padded or copied together. As fast as
the memory when rows are few, as the arithmetic when they are many. Knows nothing of sessions.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from outrider_cloud.attention_kernels import (
    BLOCK,
    PAGE_TOKENS,
    Arrays,
    Floats,
    Numbers,
    attend,
    copy,
    cut_into_items,
    write,
)
from outrider_cloud.paged_attention import KvShape
from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_layout import Ints, PassLayout
from outrider_cloud.target import CacheShape

_WORK_WORTH_SHARING: Final = 100_000  # scores of a layer; below, another thread costs more


class CpuAttention:
    """Pages of all layers; see `PagedAttention`.

    Memory that was never written to is not taken from the machine.

    Args:
        kv: what the model keeps of a token.
        num_pages: of all sequences together.
        num_threads: that may work on a pass.
    """

    def __init__(self, kv: KvShape, num_pages: int, num_threads: int = 1) -> None:
        self._kv = kv
        self._head_size = _padded(kv.head_size)
        page = _page_size(kv)
        self._keys = [np.empty(num_pages * page, np.float32) for _ in range(kv.num_layers)]
        self._values = [np.empty(num_pages * page, np.float32) for _ in range(kv.num_layers)]
        self._shape = CacheShape(num_pages, PAGE_TOKENS, _bytes_per_page(kv))
        self._num_threads = num_threads
        self._helpers = ThreadPoolExecutor(max(num_threads - 1, 1), "outrider-attention")

    @classmethod
    def within(cls, kv: KvShape, num_bytes: int, num_threads: int = 1) -> "CpuAttention":
        """As many pages as the memory has room for."""
        return cls(kv, num_bytes // _bytes_per_page(kv), num_threads)

    @property
    def shape(self) -> CacheShape:
        """See `PagedAttention.shape`."""
        return self._shape

    def begin(self, layout: PassLayout) -> None:
        """See `PagedAttention.begin`."""
        self._layout = layout
        self._of_pass = (
            layout.lengths,
            layout.begins,
            layout.positions,
            layout.page_tables,
            layout.sees,
            layout.sees_begins,
        )
        self._items: dict[int, Ints] = {}  # by group: the same for all layers of a pass
        self._num_scores = int((np.diff(layout.begins) * layout.lengths).sum())

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
        layout = self._layout
        keys, values = self._keys[layer], self._values[layer]
        kv_heads, size = self._kv.num_kv_heads, self._kv.head_size
        write(_flat(key), _flat(value), layout.slots, keys, values, kv_heads, size, self._head_size)
        mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
        group = query.shape[1] // kv_heads
        arrays = Arrays(_flat(query), keys, values, _flat(mixed), *self._of_pass)
        numbers = Numbers(kv_heads, group, size, self._head_size, window or 0, np.float32(scaling))
        if group not in self._items:
            self._items[group] = cut_into_items(layout.begins, max(BLOCK // group, 1))
        self._run(arrays, numbers, self._items[group])
        return mixed

    def move(self, moves: Sequence[Move]) -> None:
        """See `PagedAttention.move`."""
        if not moves:
            return
        sources = np.array([move.source for move in moves], dtype=np.int64)
        destinations = np.array([move.destination for move in moves], dtype=np.int64)
        for keys, values in zip(self._keys, self._values, strict=True):
            copy(sources, destinations, keys, values, self._kv.num_kv_heads, self._head_size)

    def _run(self, arrays: Arrays, numbers: Numbers, items: Ints) -> None:
        """Share out the items, each for every key head, among the threads."""
        num_units = len(items) * numbers.kv_heads
        is_worth_it = self._num_scores * numbers.kv_heads >= _WORK_WORTH_SHARING
        num_parts = self._num_threads if is_worth_it else 1
        bounds = [num_units * part // num_parts for part in range(num_parts + 1)]
        own, *others = pairwise(bounds)
        helped = [self._helpers.submit(attend, arrays, numbers, items, *part) for part in others]
        attend(arrays, numbers, items, *own)
        for part in helped:
            part.result()


def _padded(head_size: int) -> int:
    """The size of a head as it is stored: the kernels take 16 numbers at a time."""
    return -(-head_size // PAGE_TOKENS) * PAGE_TOKENS


def _page_size(kv: KvShape) -> int:
    """Numbers in a page of keys, or of values, of one layer."""
    return kv.num_kv_heads * PAGE_TOKENS * _padded(kv.head_size)


def _bytes_per_page(kv: KvShape) -> int:
    return 2 * kv.num_layers * _page_size(kv) * np.dtype(np.float32).itemsize


def _flat(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.contiguous().numpy().reshape(-1)
    return array
