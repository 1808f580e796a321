"""Attention over a paged KV cache with FlexAttention: one kernel for all rows of a pass.

The pages are read where they are, shared ones too (arXiv:2412.05496 for the kernel, 2309.06180 for
pages). What changes from pass to pass lies in tensors that stay where they are, so that a pass can
be recorded as a CUDA graph. Made for CUDA, where it is compiled, but not run on a GPU yet; on a CPU
it does the same, far too slowly to be of use. Knows nothing of sessions.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from outrider_cloud.attention_tiles import Intervals, PageLists, PagePlaces, Tiles
from outrider_cloud.paged_attention import KvShape
from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_layout import Ints, PassLayout
from outrider_cloud.row_padding import next_power_of_two
from outrider_cloud.target import CacheShape
from outrider_cloud.upload import upload
from outrider_common.errors import ConfigError

PAGE_TOKENS: Final = 128
"""Tokens of a page: a page is one of the pieces of the KV cache that the kernel reads or skips."""

MAX_QUERIES: Final = 64
"""Query rows of a tile and key head: PyTorch takes the kernel that splits long texts below 128."""

MIN_ROOM: Final = 8192
"""Rows of a pass for which there is room from the start; more make room, and new kernels."""

MAX_KERNELS: Final = 64
"""Of one process: one for each power of two of tiles and each window."""

_QUERY_BLOCK: Final = 128  # a multiple of every number of queries that kernels work on at a time

Flex = Callable[..., Any]
SeesFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class FlexAttention:
    """Pages of all layers; see `PagedAttention`.

    The rows of a pass are cut into tiles of one segment each. A tile is an element of the kernel's
    batch and reads the pages of its own segment only; packed along the query axis instead, rows of
    many segments would each be multiplied with the pages of all of them. Query heads that share a
    key head count as rows of the tile (arXiv:2305.13245), so that a page is read once for all.

    Keys and values of a layer are [kv_heads, slots, head_size].

    Args:
        kv: what the model keeps of a token.
        num_pages: of all sequences together.
        page_tokens: tokens that a page has room for.
        tile_rows: rows of a tile.
        device: where they are.
        dtype: of keys and values.
        flex: PyTorch's `flex_attention`; None compiles it.
    """

    def __init__(
        self,
        kv: KvShape,
        num_pages: int,
        page_tokens: int = PAGE_TOKENS,
        *,
        tile_rows: int = 16,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        flex: Flex | None = None,
    ) -> None:
        self._device = torch.device(device)
        slots = (1, kv.num_kv_heads, num_pages * page_tokens, kv.head_size)
        # Zeros: what is not seen has a weight of zero, and zero times what lay there may be NaN.
        self._keys, self._values = (
            [torch.zeros(slots, device=device, dtype=dtype) for _ in range(kv.num_layers)]
            for _ in range(2)
        )
        self._shape = CacheShape(num_pages, page_tokens, bytes_per_page(kv, page_tokens, dtype))
        self._tile_rows = tile_rows
        self._flex = flex or _compiled_flex()
        self._rows = _RowTensors.empty(MIN_ROOM, self._device)
        self._of_tiles: dict[int, _TileTensors] = {}
        self._windows: list[int | None] = []

    @classmethod
    def within(
        cls,
        kv: KvShape,
        num_bytes: int,
        group: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> "FlexAttention":
        """As many pages as the memory has room for.

        Args:
            kv: what the model keeps of a token.
            num_bytes: of the memory.
            group: query heads for each key head.
            device: where they are.
            dtype: of keys and values.

        Raises:
            ConfigError: there is no room for one page.
        """
        num_pages = num_bytes // bytes_per_page(kv, PAGE_TOKENS, dtype)
        if num_pages < 1:
            raise ConfigError(
                f"A KV cache of {num_bytes >> 20} MiB has no room for one page of {PAGE_TOKENS} "
                "tokens; raise verifier.kv_cache_mib, or choose a smaller model."
            )
        return cls(kv, num_pages, tile_rows=tile_rows(group), device=device, dtype=dtype)

    @property
    def shape(self) -> CacheShape:
        """See `PagedAttention.shape`."""
        return self._shape

    @property
    def pass_shape(self) -> tuple[int, int, int]:
        """Passes for which this is equal use the same tensors and kernels."""
        return self._num_rows, len(self._tiles.segments), len(self._rows.slots)

    def begin(self, layout: PassLayout) -> None:
        """See `PagedAttention.begin`."""
        self._num_rows = len(layout.tokens)
        self._make_room(self._num_rows)
        tiles = Tiles.of(layout.begins, self._tile_rows)
        self._rows.fill(layout, tiles)
        num_tiles = next_power_of_two(len(tiles.segments))
        if num_tiles not in self._of_tiles:
            self._of_tiles[num_tiles] = _TileTensors.empty(
                num_tiles, self._tile_rows, self._shape.num_pages, self._device
            )
        self._tiles = self._of_tiles[num_tiles]
        self._tiles.fill(layout, tiles, self._shape.page_tokens)
        self._pass = layout, tiles
        for window in self._windows:
            self._list_pages(window)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float,
        window: int | None,
    ) -> Tensor:
        """See `PagedAttention.attend`."""
        self._write(layer, key, value)
        num_tiles, size = len(self._tiles.segments), self._tile_rows
        _, heads, head_size = query.shape
        kv_heads = key.shape[1]
        tiled = (
            query.index_select(0, self._tiles.rows.view(-1))
            .view(num_tiles, size, kv_heads, heads // kv_heads, head_size)
            .permute(0, 2, 3, 1, 4)
            .reshape(num_tiles, kv_heads, heads // kv_heads * size, head_size)
        )
        mixed: Tensor = self._flex(
            tiled,
            self._keys[layer],
            self._values[layer],
            block_mask=self._mask(window, tiled.shape[2]),
            scale=scaling,
        )
        untiled = (
            mixed.view(num_tiles, kv_heads, heads // kv_heads, size, head_size)
            .permute(0, 3, 1, 2, 4)
            .reshape(num_tiles * size, heads, head_size)
        )
        return untiled.index_select(0, self._rows.places[: self._num_rows])

    def move(self, moves: Sequence[Move]) -> None:
        """See `PagedAttention.move`."""
        if not moves:
            return
        sources, destinations = _in_one_step(moves)
        source, destination = (
            upload(np.array(slots), self._device) for slots in (sources, destinations)
        )
        for slots in (*self._keys, *self._values):
            slots.index_copy_(2, destination, slots.index_select(2, source))

    def _make_room(self, num_rows: int) -> None:
        if num_rows > len(self._rows.slots):
            self._rows = _RowTensors.empty(next_power_of_two(num_rows), self._device)
            self._of_tiles = {}

    def _write(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Values that are no numbers would reach others through weights of zero; keys do not."""
        slots = self._rows.slots[: self._num_rows]
        self._keys[layer][0].index_copy_(1, slots, key.transpose(0, 1))
        self._values[layer][0].index_copy_(1, slots, value.transpose(0, 1).nan_to_num())

    def _mask(self, window: int | None, num_queries: int) -> BlockMask:
        if window not in self._windows:
            self._windows.append(window)
            self._list_pages(window)
        lists = self._tiles.lists[window]
        if lists.mask is None:
            sees = _sees_function(self._rows, self._tiles, self._shape.page_tokens, window)
            mask = BlockMask.from_kv_blocks(
                lists.counts,
                lists.pages,
                BLOCK_SIZE=(_QUERY_BLOCK, self._shape.page_tokens),
                mask_mod=sees,
                seq_lengths=(num_queries, self._shape.num_pages * self._shape.page_tokens),
                compute_q_blocks=False,
            )
            lists = self._tiles.lists[window] = lists._replace(mask=mask)
        assert lists.mask is not None
        return lists.mask

    def _list_pages(self, window: int | None) -> None:
        """The pages that the tiles of this pass read, where a row sees a window of this size."""
        if window not in self._tiles.lists:
            self._tiles.lists[window] = _ListTensors.empty(
                len(self._tiles.segments), self._shape.num_pages, self._device
            )
        layout, tiles = self._pass
        lists = PageLists.of(layout, tiles, self._shape.page_tokens, window)
        self._tiles.lists[window].fill(lists)


def bytes_per_page(kv: KvShape, page_tokens: int, dtype: torch.dtype) -> int:
    """Keys and values of all layers."""
    return 2 * kv.num_layers * kv.num_kv_heads * kv.head_size * page_tokens * dtype.itemsize


class _RowTensors(NamedTuple):
    """What attention knows of each row of a pass, with room for more rows; [room] each."""

    slots: Tensor
    places: Tensor
    positions: Tensor
    enters: Tensor
    exits: Tensor

    @classmethod
    def empty(cls, room: int, device: torch.device) -> "_RowTensors":
        indices = [torch.zeros(room, dtype=torch.int64, device=device) for _ in range(2)]
        numbers = [torch.zeros(room, dtype=torch.int32, device=device) for _ in range(3)]
        return cls(*indices, *numbers)

    def fill(self, layout: PassLayout, tiles: Tiles) -> None:
        walk = Intervals.of(layout)
        arrays = (layout.slots, tiles.places, layout.positions, walk.enters, walk.exits)
        for tensor, array in zip(self, arrays, strict=True):
            _fill(tensor, array)


class _ListTensors(NamedTuple):
    """The pages that tiles read: counts [tiles, 1, 1] and pages [tiles, 1, 1, num_pages]."""

    counts: Tensor
    pages: Tensor
    mask: BlockMask | None = None

    @classmethod
    def empty(cls, num_tiles: int, num_pages: int, device: torch.device) -> "_ListTensors":
        return cls(
            torch.zeros((num_tiles, 1, 1), dtype=torch.int32, device=device),
            torch.zeros((num_tiles, 1, 1, num_pages), dtype=torch.int32, device=device),
        )

    def fill(self, lists: PageLists) -> None:
        self.counts.zero_()
        _fill(self.counts[:, 0, 0], lists.counts)
        _fill(self.pages[:, 0, 0, : lists.pages.shape[1]], lists.pages)


class _TileTensors(NamedTuple):
    """What attention knows of so many tiles, and of as many segments at most.

    Attributes:
        rows: of the pass, [tiles, tile_rows].
        segments: [tiles].
        indices: where a page stands in the text of a segment, or -1, [tiles, num_pages].
        lengths: the cached tokens of each segment, [tiles].
        begins: the first row of each segment, [tiles].
        ends: the row behind its last, [tiles].
        lists: by window.
    """

    rows: Tensor
    segments: Tensor
    indices: Tensor
    lengths: Tensor
    begins: Tensor
    ends: Tensor
    lists: dict[int | None, _ListTensors]

    @classmethod
    def empty(
        cls, num_tiles: int, tile_rows: int, num_pages: int, device: torch.device
    ) -> "_TileTensors":
        def ints(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int32, device=device)

        return cls(
            rows=ints(num_tiles, tile_rows),
            segments=ints(num_tiles),
            indices=ints(num_tiles, num_pages),
            lengths=ints(num_tiles),
            begins=ints(num_tiles),
            ends=ints(num_tiles),
            lists={},
        )

    def fill(self, layout: PassLayout, tiles: Tiles, page_tokens: int) -> None:
        self.rows.zero_()  # tiles without rows must not name rows that this pass lacks
        _fill(self.rows, tiles.rows)
        _fill(self.segments, tiles.segments)
        _fill(self.lengths, layout.lengths)
        _fill(self.begins, layout.begins[:-1])
        _fill(self.ends, layout.begins[1:])
        places = PagePlaces.of(layout, page_tokens)
        segments, pages, indices = (
            upload(array, self.rows.device)
            for array in (places.segments, places.pages, places.indices)
        )
        self.indices.fill_(-1)
        self.indices[segments, pages] = indices.int()


def _sees_function(
    rows: _RowTensors, tiles: _TileTensors, page_tokens: int, window: int | None
) -> SeesFunction:
    """Whether a query of a tile sees a slot of the cache; a `mask_mod` of FlexAttention."""
    positions, enters, exits = rows.positions, rows.enters, rows.exits
    tile_rows, segments, indices = tiles.rows, tiles.segments, tiles.indices
    lengths, begins, ends = tiles.lengths, tiles.begins, tiles.ends
    last_row, tile_size = len(positions) - 1, tile_rows.shape[1]

    def sees(tile: Tensor, _head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        segment = segments[tile]
        row = tile_rows[tile, query % tile_size]
        place = indices[segment, slot // page_tokens] * page_tokens + slot % page_tokens
        length = lengths[segment]
        other = begins[segment] + place - length
        is_text = (place >= 0) & (place < length)
        is_row = (place >= length) & (other < ends[segment])
        other = torch.clamp(other, 0, last_row)
        is_above = (enters[other] <= enters[row]) & (enters[row] < exits[other])
        is_seen = is_text | (is_row & is_above)
        if window is None:
            return is_seen
        position = torch.where(is_text, place, positions[other])
        return is_seen & (position > positions[row] - window)

    return sees


def tile_rows(group: int) -> int:
    """Rows of a tile, a power of two, where so many query heads share a key head."""
    return max(next_power_of_two(MAX_QUERIES // group + 1) // 2, 1)


def _compiled_flex() -> Flex:
    compiled: Flex = torch.compile(  # type: ignore[call-overload]
        flex_attention, fullgraph=True, dynamic=False, recompile_limit=MAX_KERNELS
    )
    return compiled


def _in_one_step(moves: Sequence[Move]) -> tuple[list[int], list[int]]:
    """Sources and destinations of moves that are made one after the other, made at once."""
    came_from: dict[int, int] = {}
    for move in moves:
        came_from[move.destination] = came_from.get(move.source, move.source)
    return list(came_from.values()), list(came_from)


def _fill(tensor: Tensor, array: Ints) -> None:
    """Write an array to the beginning of a tensor that stays where it is."""
    part = tensor[tuple(slice(size) for size in array.shape)]
    part.copy_(upload(array, tensor.device), non_blocking=True)
