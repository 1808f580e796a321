"""A model that was sped up gives the logits that it gave before, whatever it is made of."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import FAMILIES, ONLY_VERIFIED, write_tiny_model
from torch import nn
from transformers import AutoModelForCausalLM, SmolLM3Config, SmolLM3ForCausalLM

from outrider_cloud.fused_modules import GatedMlp, GroupedAttention, PairedRotary, RmsNorm
from outrider_cloud.packed_linear import PackedLinear
from outrider_cloud.speed_up import SpeedUp, speed_up

ALL_FAMILIES = sorted(FAMILIES | ONLY_VERIFIED)
LARGE_ENOUGH_TO_PACK = {"hidden_size": 512, "intermediate_size": 768}


def _load(directory: Path) -> Any:
    make: Any = AutoModelForCausalLM
    return make.from_pretrained(directory, dtype=torch.float32).eval()


def _logits(model: Any, num_rows: int, **arguments: Any) -> torch.Tensor:
    torch.manual_seed(num_rows)
    tokens = torch.randint(0, model.config.vocab_size, (1, num_rows))
    with torch.inference_mode():
        logits: torch.Tensor = model(tokens, **arguments).logits
    return logits


def _assert_same_logits(ours: Any, theirs: Any) -> None:
    for num_rows in (1, 2, 9, 70):
        torch.testing.assert_close(
            _logits(ours, num_rows), _logits(theirs, num_rows), rtol=2e-5, atol=2e-5
        )


@pytest.mark.parametrize("family", ALL_FAMILIES)
def test_every_known_family_is_sped_up_and_keeps_its_logits(family: str, tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path, family)
    ours, theirs = _load(directory), _load(directory)
    done = speed_up(ours)
    assert (done.num_attentions, done.num_mlps) == (2, 2)
    assert done.num_norms >= 5
    _assert_same_logits(ours, theirs)


@pytest.mark.parametrize("family", ["llama", "llama_biased", "qwen3"])
def test_reordered_weights_inside_fused_modules_keep_the_logits(
    family: str, tmp_path: Path
) -> None:
    directory = write_tiny_model(tmp_path, family, initializer_range=0.02, **LARGE_ENOUGH_TO_PACK)
    ours, theirs = _load(directory), _load(directory)
    speed_up(ours)
    assert PackedLinear in _kinds(ours)
    _assert_same_logits(ours, theirs)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3"])
def test_generating_with_a_cache_of_transformers_gives_the_same_tokens(
    family: str, tmp_path: Path
) -> None:
    directory = write_tiny_model(tmp_path, family)
    ours, theirs = _load(directory), _load(directory)
    speed_up(ours)
    prompt = torch.arange(3, 15)[None]
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None}
    assert ours.generate(prompt, **options).tolist() == theirs.generate(prompt, **options).tolist()


def test_the_attention_function_of_before_is_in_place_again(tmp_path: Path) -> None:
    model = _load(write_tiny_model(tmp_path))
    before = model.config._attn_implementation
    speed_up(model)
    assert model.config._attn_implementation == before


def test_other_number_formats_stay_as_they_are(tmp_path: Path) -> None:
    model = _load(write_tiny_model(tmp_path)).to(torch.bfloat16)
    assert speed_up(model) == SpeedUp(0, 0, 0)


class _WithOneMore(nn.Module):
    """Has the parts of the module that it stands in for, and computes something else."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.__dict__.update(inner.__dict__)
        self._inner = [inner]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self._inner[0](*args, **kwargs)
        return (output[0] + 1, *output[1:]) if isinstance(output, tuple) else output + 1


def _kinds(model: nn.Module) -> list[type[nn.Module]]:
    return [type(module) for module in model.modules()]


def test_a_feed_forward_layer_that_computes_something_else_stays(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    ours, theirs = _load(directory), _load(directory)
    for model in (ours, theirs):
        model.model.layers[1].mlp = _WithOneMore(model.model.layers[1].mlp)
    assert speed_up(ours).num_mlps == 1
    assert isinstance(ours.model.layers[0].mlp, GatedMlp)
    _assert_same_logits(ours, theirs)


def test_a_norm_that_computes_something_else_stays(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    ours, theirs = _load(directory), _load(directory)
    for model in (ours, theirs):
        model.model.norm = _WithOneMore(model.model.norm)
    assert speed_up(ours).num_norms == 4
    _assert_same_logits(ours, theirs)


def test_one_unknown_attention_layer_keeps_the_attention_of_all(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path)
    ours, theirs = _load(directory), _load(directory)
    for model in (ours, theirs):
        layer = model.model.layers[1]
        layer.self_attn = _WithOneMore(layer.self_attn)
    done = speed_up(ours)
    assert (done.num_attentions, done.num_mlps) == (0, 2)
    assert PairedRotary not in _kinds(ours)
    _assert_same_logits(ours, theirs)


def test_a_model_whose_layers_do_not_all_turn_their_heads_keeps_its_attention() -> None:
    config = SmolLM3Config(
        vocab_size=99,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        no_rope_layers=[1, 0],
        pad_token_id=0,
    )
    torch.manual_seed(2)
    theirs = SmolLM3ForCausalLM(config)
    ours = deepcopy(theirs)
    done = speed_up(ours)
    assert (done.num_attentions, done.num_mlps) == (0, 2)
    _assert_same_logits(ours, theirs)


def test_the_replaced_modules_and_their_weights_are_gone(tmp_path: Path) -> None:
    model = _load(write_tiny_model(tmp_path, **LARGE_ENOUGH_TO_PACK))
    speed_up(model)
    layer = model.model.layers[0]
    assert {GatedMlp, GroupedAttention, RmsNorm, PackedLinear} <= set(_kinds(layer))
    assert not any(hasattr(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj"))
    assert sum(parameter.numel() for parameter in layer.parameters()) == 0
