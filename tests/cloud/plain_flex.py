"""FlexAttention written out: what a kernel computes from a block mask, in plain operations."""

from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_mask
from torch.nn.functional import scaled_dot_product_attention


def plain_flex(
    query: Tensor, key: Tensor, value: Tensor, *, block_mask: BlockMask, scale: float
) -> Tensor:
    """As `flex_attention`: a slot counts if its page is listed and the mask function sees it."""
    num_queries, num_slots = query.shape[2], key.shape[2]
    listed = block_mask.to_dense().bool()  # [tiles, 1, 1, pages]
    listed = listed.repeat_interleave(num_slots // listed.shape[-1], dim=-1)
    seen = create_mask(
        block_mask.mask_mod, len(query), None, num_queries, num_slots, str(query.device)
    )
    keys, values = (some.expand(len(query), -1, -1, -1) for some in (key, value))
    return scaled_dot_product_attention(query, keys, values, attn_mask=seen & listed, scale=scale)


def is_seen(block_mask: BlockMask, num_queries: int, num_slots: int) -> Tensor:
    """What the mask function alone says, [tiles, queries, slots]."""
    num_tiles = len(block_mask.kv_num_blocks)
    return create_mask(block_mask.mask_mod, num_tiles, None, num_queries, num_slots, "cpu")[:, 0]


def listed_pages(block_mask: BlockMask) -> list[list[int]]:
    """The pages that a kernel visits for each tile."""
    counts, pages = block_mask.kv_num_blocks.flatten(), block_mask.kv_indices[:, 0, 0]
    return [row[:count].tolist() for row, count in zip(pages, counts, strict=True)]
