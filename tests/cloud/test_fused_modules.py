"""Fused modules compute what the modules that they replace compute, for any input."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers import LlamaConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import (
    LlamaMLP,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
)

from outrider_cloud.fused_modules import GatedMlp, RmsNorm, paired, rotation, stacked

magnitudes = st.sampled_from([1e-6, 1e-2, 1.0, 1e4])
seeds = st.integers(0, 2**31)


@dataclass
class _Norms:
    theirs: Any
    scale: torch.Tensor


def _llama_norm(size: int) -> _Norms:
    norm: Any = LlamaRMSNorm(size, eps=1e-5)
    nn.init.normal_(norm.weight)
    return _Norms(norm, norm.weight.detach())


def _gemma_norm(size: int) -> _Norms:
    norm: Any = Gemma3RMSNorm(size, eps=1e-5)
    nn.init.normal_(norm.weight)
    return _Norms(norm, 1 + norm.weight.detach())


@pytest.mark.parametrize("make", [_llama_norm, _gemma_norm])
@given(seed=seeds, num_rows=st.integers(1, 9), size=st.integers(1, 70), magnitude=magnitudes)
def test_a_norm_of_any_rows_equals_the_one_it_replaces(
    make: Any, seed: int, num_rows: int, size: int, magnitude: float
) -> None:
    torch.manual_seed(seed)
    norms = make(size)
    x = magnitude * torch.randn(1, num_rows, size)
    with torch.inference_mode():
        ours = RmsNorm(norms.scale, 1e-5)(x)
        torch.testing.assert_close(ours, norms.theirs(x), rtol=2e-5, atol=1e-6)


def test_the_norm_of_zeros_is_zero() -> None:
    assert not RmsNorm(torch.ones(8), 1e-6)(torch.zeros(1, 2, 8)).any()


@pytest.mark.parametrize("activation", ["silu", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_feed_forward_layer_equals_the_one_it_replaces(activation: str, bias: bool) -> None:
    torch.manual_seed(1)
    config = LlamaConfig(hidden_size=64, intermediate_size=80, hidden_act=activation, mlp_bias=bias)
    theirs: Any = LlamaMLP(config)  # type: ignore[no-untyped-call]
    x = torch.randn(1, 7, 64)
    with torch.inference_mode():
        torch.testing.assert_close(GatedMlp(theirs)(x), theirs(x), rtol=1e-5, atol=1e-6)


@given(seed=seeds, num_rows=st.integers(1, 6), half=st.integers(1, 20))
def test_turning_pairs_keeps_every_score(seed: int, num_rows: int, half: int) -> None:
    torch.manual_seed(seed)
    query, key = torch.randn(2, 1, 3, num_rows, 2 * half)
    angles = 100 * torch.randn(1, num_rows, half).repeat(1, 1, 2)
    their_query, their_key = apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
    factors = rotation(angles.cos(), angles.sin()).transpose(1, 2)
    order = paired(2 * half)

    def turn(states: torch.Tensor) -> torch.Tensor:
        pairs = states[..., order].contiguous().view(torch.complex64)
        return (pairs * factors).view(torch.float32)

    torch.testing.assert_close(turn(query), their_query[..., order])
    torch.testing.assert_close(turn(key), their_key[..., order])
    torch.testing.assert_close(
        turn(query) @ turn(key).mT, their_query @ their_key.mT, rtol=1e-4, atol=1e-4
    )


@given(size=st.integers(1, 64))
def test_pairs_are_one_element_of_each_half(size: int) -> None:
    pairs = paired(2 * size).view(-1, 2)
    assert pairs[:, 0].tolist() == list(range(size))
    assert pairs[:, 1].tolist() == list(range(size, 2 * size))


@pytest.mark.parametrize("bias", [False, True])
def test_stacked_layers_answer_behind_one_another(bias: bool) -> None:
    layers = [nn.Linear(6, size, bias=bias) for size in (3, 5, 1)]
    x = torch.randn(2, 6)
    torch.testing.assert_close(stacked(layers)(x), torch.cat([layer(x) for layer in layers], -1))
