"""FlexAttention over pages: what `test_torch_target` does not see through a model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_flex import is_seen, listed_pages, plain_flex
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from outrider_cloud.flex_attention import (
    MAX_QUERIES,
    MIN_ROOM,
    FlexAttention,
    bytes_per_page,
    tile_rows,
)
from outrider_cloud.paged_attention import KvShape, PagedAttention
from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.plain_attention import PlainAttention
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_common.errors import ConfigError

KV = KvShape(num_layers=2, num_kv_heads=2, head_size=16)
HEADS = 6
NUM_PAGES = 12
PAGE_TOKENS = 16
TREE = Rows((1, 2, 3, 4, 5), (CACHED_TEXT, 0, 0, 1, CACHED_TEXT))


class Spy:
    """Keeps the masks that the kernel is given."""

    def __init__(self) -> None:
        self.masks: list[BlockMask] = []

    def __call__(self, *args: Any, block_mask: BlockMask, **named: Any) -> Tensor:
        self.masks.append(block_mask)
        return plain_flex(*args, block_mask=block_mask, **named)


def make(flex: Any = plain_flex, size: int = 2) -> FlexAttention:
    return FlexAttention(KV, NUM_PAGES, PAGE_TOKENS, tile_rows=size, flex=flex)


def numbers(num_rows: int, heads: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, heads, KV.head_size, generator=generator)


def attend(
    attention: PagedAttention,
    segments: Sequence[Segment],
    window: int | None = None,
    seed: int = 0,
    value: Tensor | None = None,
) -> Tensor:
    """Layer 1 of a pass with queries, keys and values that the seed makes."""
    layout = PassLayout.of(segments, PAGE_TOKENS)
    num_rows = len(layout.tokens)
    attention.begin(layout)
    return attention.attend(
        1,
        numbers(num_rows, HEADS, seed),
        numbers(num_rows, KV.num_kv_heads, seed + 1),
        numbers(num_rows, KV.num_kv_heads, seed + 2) if value is None else value,
        0.3,
        window,
    )


def assert_equal_to_plain(attention: FlexAttention) -> None:
    """Over several passes: prefill, shared pages, trees, windows, other numbers of tiles."""
    plain = PlainAttention(KV, NUM_PAGES, PAGE_TOKENS)
    work: list[tuple[list[Segment], int | None]] = [
        ([Segment((3, 1, 7), 0, Rows.chain(range(40)))], None),
        ([Segment((3, 1, 7), 38, TREE), Segment((3, 9), 16, TREE)], None),
        ([Segment((3, 1, 7), 38, TREE), Segment((3, 9), 16, TREE)], 20),
        ([Segment((3, 9), 17, Rows.chain([1]))], None),
        ([Segment((3, 1, 7), 40, TREE)], 3),
    ]
    for seed, (segments, window) in enumerate(work):
        expected = attend(plain, segments, window, seed)
        torch.testing.assert_close(attend(attention, segments, window, seed), expected)


def test_attention_is_that_of_one_sequence_after_the_other() -> None:
    assert_equal_to_plain(make())


@pytest.mark.slow
def test_the_compiled_kernel_does_the_same() -> None:
    assert_equal_to_plain(FlexAttention(KV, NUM_PAGES, PAGE_TOKENS, tile_rows=2))


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3),
    num_rows=st.integers(1, 7),
    window=st.sampled_from([None, 2, 18]),
)
def test_no_page_that_is_not_listed_has_a_slot_that_is_seen(
    lengths: list[int], num_rows: int, window: int | None
) -> None:
    spy = Spy()
    segments = [
        Segment(tuple(range(3 * i, 3 * i + 3)), length, Rows.chain(range(num_rows)))
        for i, length in enumerate(lengths)
    ]
    attend(make(spy), segments, window)
    (mask,) = spy.masks
    num_queries, num_slots = mask.shape[-2:]
    seen = is_seen(mask, num_queries, num_slots).any(dim=1)
    for tile, listed in zip(seen, listed_pages(mask), strict=True):
        pages = (tile.nonzero()[:, 0] // PAGE_TOKENS).unique().tolist()
        assert set(pages) <= set(listed) or not listed
        assert len(listed) <= 3


def test_passes_of_equal_shape_use_the_same_tensors() -> None:
    spy = Spy()
    attention = make(spy)
    attend(attention, [Segment((0, 1), 0, Rows.chain([1, 2, 3]))])
    shape = attention.pass_shape
    attend(attention, [Segment((4, 5), 9, Rows.chain([4, 5, 6]))])
    assert attention.pass_shape == shape
    first, second = spy.masks
    assert first.kv_indices.data_ptr() == second.kv_indices.data_ptr()
    assert first.mask_mod is second.mask_mod


def test_what_is_no_number_in_a_page_does_not_reach_who_has_it_next() -> None:
    attention = make()
    broken = torch.full((40, KV.num_kv_heads, KV.head_size), torch.nan)
    attend(attention, [Segment((0, 1, 2), 0, Rows.chain(range(40)))], value=broken)
    after = [Segment((0,), 0, Rows.chain([1, 2]))]
    expected = attend(PlainAttention(KV, NUM_PAGES, PAGE_TOKENS), after)
    torch.testing.assert_close(attend(attention, after), expected)


def test_moves_are_made_one_after_the_other_in_all_layers() -> None:
    attention, plain = make(), PlainAttention(KV, NUM_PAGES, PAGE_TOKENS)
    moves = [Move(2, 1), Move(1, 5), Move(4, 2), Move(5, 20)]
    for one in (attention, plain):
        attend(one, [Segment((0, 1), 0, Rows.chain(range(24)))])
        one.move(moves)
        one.move([])
    after = [Segment((0, 1), 22, Rows.chain([1]))]
    torch.testing.assert_close(attend(attention, after), attend(plain, after))


def test_a_pass_of_more_rows_than_there_is_room_for_makes_room() -> None:
    attention = FlexAttention(KV, 2 * MIN_ROOM // PAGE_TOKENS, PAGE_TOKENS, flex=plain_flex)
    segments = [
        Segment(tuple(range(64 * i, 64 * i + 64)), 0, Rows.chain(range(600))) for i in range(14)
    ]
    attention.begin(PassLayout.of(segments, PAGE_TOKENS))
    num_rows, _, room = attention.pass_shape
    assert num_rows == 8400 <= room


@given(group=st.integers(1, 200))
def test_a_tile_has_as_many_rows_as_the_kernel_for_short_queries_takes(group: int) -> None:
    size = tile_rows(group)
    assert size == 1 or size * group <= MAX_QUERIES < 2 * size * group


def test_the_bytes_of_a_page_are_those_of_its_tensors() -> None:
    page = bytes_per_page(KV, PAGE_TOKENS, torch.bfloat16)
    attention = FlexAttention(KV, NUM_PAGES, PAGE_TOKENS, dtype=torch.bfloat16, flex=plain_flex)
    tensors = [*attention._keys, *attention._values]
    assert sum(tensor.nbytes for tensor in tensors) == page * NUM_PAGES
    assert attention.shape.bytes_per_page == page


def test_a_cache_without_room_for_a_page_is_refused() -> None:
    with pytest.raises(ConfigError, match="kv_cache_mib"):
        FlexAttention.within(KV, 1000, 3, "cpu", torch.float32)


def test_as_many_pages_as_fit_are_made() -> None:
    size = 5 * bytes_per_page(KV, 128, torch.float32) + 7
    attention = FlexAttention.within(KV, size, 3, "cpu", torch.float32)
    assert (attention.shape.num_pages, attention.shape.page_tokens) == (5, 128)
    assert np.prod(attention._keys[0].shape) == KV.num_kv_heads * KV.head_size * 5 * 128
