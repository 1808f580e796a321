"""Scales of keys and values: they hold what they were found on, wherever it stands."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_models import write_tiny_model

from outrider_export.kv_scales import find_kv_scales

TEXTS = [[5, 6, 7, 8], np.random.default_rng(0).integers(0, 300, 40).tolist()]


@pytest.mark.parametrize("family", ["llama", "mistral_window", "qwen3"])
@pytest.mark.parametrize("offset", [0, 1, 50, 100])
def test_the_keys_and_values_of_a_text_fit_at_every_position(
    tmp_path: Path, family: str, offset: int
) -> None:
    source = write_tiny_model(tmp_path, family)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    scales = find_kv_scales(model, TEXTS)
    assert len(scales) == 2
    for text in TEXTS:
        cache: Any = transformers.DynamicCache()
        positions = torch.arange(offset, offset + len(text))[None]
        with torch.no_grad():
            model(torch.tensor([text]), position_ids=positions, past_key_values=cache)
        for layer, found in zip(cache.layers, scales, strict=True):
            assert found.keys.shape == found.values.shape == (2, layer.keys.shape[-1])
            for largest, scale in (
                (layer.keys[0].abs().amax(dim=1).numpy(), found.keys),
                (layer.values[0].abs().amax(dim=1).numpy(), found.values),
            ):
                assert (largest <= 127 * scale / 1.25).all()
                assert largest.max() >= 127 * scale.max() / 20


def test_a_channel_that_is_always_zero_has_a_scale(tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight.fill_(0)
    assert (find_kv_scales(model, TEXTS)[0].values == 1).all()
