"""How large the keys and values of a model get, to store them with 8 bits in the KV cache.

One scale for each channel of each head, found on texts. Knows nothing of graphs or caches.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from outrider_export.decoder import Array

_MARGIN = 1.3
"""What other texts may reach beyond the largest that was seen. Whatever is larger is cut off."""

_LARGEST_CODE = 127


@dataclass(frozen=True, slots=True)
class KvScales:
    """Of one layer: what a code of 1 stands for.

    Attributes:
        keys: float32 [num_kv_heads, head_size], after the rotary embedding.
        values: float32 [num_kv_heads, head_size].
    """

    keys: Array
    values: Array


def find_kv_scales(model: Any, texts: Iterable[Sequence[int]]) -> list[KvScales]:
    """Scales that hold the keys and values of all texts, for each layer.

    Args:
        model: a torch model, in fp32 on the CPU.
        texts: tokens of each; at least one text that is not empty.
    """
    seen = [_largest(model, text) for text in texts]
    return [
        KvScales(
            _scales([layer.keys for layer in layers]), _scales([layer.values for layer in layers])
        )
        for layers in zip(*seen, strict=True)
    ]


def _largest(model: Any, text: Sequence[int]) -> list[KvScales]:
    """The largest magnitudes of each channel in one text, by layer."""
    cache: Any = (
        DynamicCache()
    )  # without the model's config it keeps what is outside of windows, too
    with torch.no_grad():
        model(torch.tensor([text]), past_key_values=cache)
    return [
        KvScales(
            _over_all_angles(layer.keys[0].numpy()).max(axis=1),
            np.abs(layer.values[0].numpy()).max(axis=1),
        )
        for layer in cache.layers
    ]


def _over_all_angles(keys: Array) -> Array:
    """How large each channel can get by rotation: that of a pair is its length.

    Rotary embeddings turn channels i and i + head_size / 2 together, by an angle that depends on
    the position, so short texts do not show the largest values of each.

    Args:
        keys: [num_kv_heads, tokens, head_size].
    """
    half = keys.shape[-1] // 2
    lengths = np.hypot(keys[..., :half], keys[..., half:])
    return np.concatenate([lengths, lengths], axis=-1)


def _scales(largest: Sequence[Array]) -> Array:
    together = np.max(largest, axis=0) * np.float32(_MARGIN / _LARGEST_CODE)
    return np.where(together == 0, np.float32(1), together)
