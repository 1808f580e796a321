"""Reads a Llama-family model: its shape and, as NumPy arrays, its weights and rotary tables.

The families differ in three optional things only: biases of the projections (Qwen2), norms of
queries and keys (Qwen3), and attention windows (Mistral). Knows nothing of ONNX.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from outrider_cloud.loading import load_causal_lm
from outrider_common.errors import UnsupportedError

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""The `model_type`s whose arithmetic the exported graph knows."""

_MOVING_ROPE_TYPES = frozenset({"dynamic", "longrope"})

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer.

    Attributes:
        weight: [out, in].
        bias: [out], or None.
    """

    weight: Array
    bias: Array | None


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """The weights of one transformer layer.

    Attributes:
        input_norm: [hidden], before the attention.
        q, k, v, o: the projections of the attention.
        q_norm: [head_size], or None where queries and keys are not normalised.
        k_norm: as q_norm.
        window: how many positions a query sees, itself included; None: all.
        post_norm: [hidden], before the MLP.
        gate, up, down: the projections of the MLP.
    """

    input_norm: Array
    q: Linear
    k: Linear
    v: Linear
    o: Linear
    q_norm: Array | None
    k_norm: Array | None
    window: int | None
    post_norm: Array
    gate: Linear
    up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a decoder.

    Attributes:
        family: the `model_type` of its config.
        hidden_size: width of the residual stream.
        num_layers: transformer layers.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        head_size: width of a head.
        vocab_size: rows of the LM head.
        max_positions: the longest sequence.
        norm_epsilon: of all RMS norms.
        tied: the LM head is the embedding matrix.
    """

    family: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    vocab_size: int
    max_positions: int
    norm_epsilon: float
    tied: bool


class Decoder:
    """A loaded model. Weights are views of the torch model's memory wherever that is possible.

    Args:
        model: a causal language model of one of `FAMILIES`, in fp32 on the CPU.
        max_positions: limit the sequence length below what the model allows; None: do not.

    Raises:
        UnsupportedError: the model computes something that the exported graph cannot.
    """

    def __init__(self, model: Any, max_positions: int | None = None) -> None:
        refuse_unknown(model.config)
        self.model = model
        self.architecture = _architecture(model, max_positions)

    @property
    def embedding(self) -> Array:
        """[vocab, hidden]."""
        return _array(self.model.model.embed_tokens.weight)

    @property
    def head(self) -> Array:
        """The LM head: [vocab, hidden]."""
        return _array(self.model.lm_head.weight)

    @property
    def final_norm(self) -> Array:
        """[hidden]."""
        return _array(self.model.model.norm.weight)

    def layers(self) -> Iterator[DecoderLayer]:
        """The layers from the first to the last."""
        for index, layer in enumerate(self.model.model.layers):
            yield _layer(layer, _window(self.model.config, index))

    def rotary_tables(self) -> tuple[Array, Array]:
        """Cosines and sines: each [max_positions, head_size / 2], scaled as the model does."""
        positions = torch.arange(self.architecture.max_positions)[None]
        with torch.no_grad():
            tables = self.model.model.rotary_emb(torch.zeros(1), positions)
        half = self.architecture.head_size // 2
        # Transformers repeats the half for both halves of a head: [1, positions, head_size].
        cosines, sines = (table[0, :, :half].contiguous() for table in tables)
        return _array(cosines), _array(sines)


def load_decoder(directory: Path, max_positions: int | None = None) -> Decoder:
    """Load a model directory in fp32.

    Raises:
        ModelFileError: the directory holds no model that Transformers can load.
        UnsupportedError: the model is not of one of `FAMILIES`, or uses a part that is not known.
    """
    return Decoder(load_causal_lm(directory, refuse_unknown), max_positions)


def refuse_unknown(config: Any) -> None:
    """Refuse a model of which no graph can be made, by its config.

    Raises:
        UnsupportedError: it is not of one of `FAMILIES`, or uses a part that is not known.
    """
    if config.model_type not in FAMILIES:
        raise UnsupportedError(
            f"Models of type {config.model_type!r} cannot be exported: "
            f"choose one of the types {', '.join(sorted(FAMILIES))}."
        )
    rope_type = _rope_type(config)
    if rope_type in _MOVING_ROPE_TYPES:
        raise UnsupportedError(
            f"Rotary embeddings of type {rope_type!r} change with the length of the text and "
            "cannot be exported: choose a model with fixed ones."
        )
    if config.hidden_act != "silu":
        raise UnsupportedError(
            f"The activation {config.hidden_act!r} cannot be exported: choose a model with 'silu'."
        )


def _rope_type(config: Any) -> str:
    parameters = getattr(config, "rope_parameters", None) or {}
    return str(parameters.get("rope_type", "default"))


def _architecture(model: Any, max_positions: int | None) -> Architecture:
    config = model.config
    head_size = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    longest = config.max_position_embeddings
    return Architecture(
        family=config.model_type,
        hidden_size=config.hidden_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_size=head_size,
        vocab_size=model.lm_head.weight.shape[0],
        max_positions=min(max_positions or longest, longest),
        norm_epsilon=config.rms_norm_eps,
        tied=model.lm_head.weight is model.model.embed_tokens.weight,
    )


def _window(config: Any, index: int) -> int | None:
    """The attention window of a layer. Mistral has one for all layers, Qwen a list of types."""
    types = getattr(config, "layer_types", None)
    if types and types[index] != "sliding_attention":
        return None
    return getattr(config, "sliding_window", None)


def _layer(layer: Any, window: int | None) -> DecoderLayer:
    attention, mlp = layer.self_attn, layer.mlp
    return DecoderLayer(
        input_norm=_array(layer.input_layernorm.weight),
        q=_linear(attention.q_proj),
        k=_linear(attention.k_proj),
        v=_linear(attention.v_proj),
        o=_linear(attention.o_proj),
        q_norm=_optional(getattr(attention, "q_norm", None)),
        k_norm=_optional(getattr(attention, "k_norm", None)),
        window=window,
        post_norm=_array(layer.post_attention_layernorm.weight),
        gate=_linear(mlp.gate_proj),
        up=_linear(mlp.up_proj),
        down=_linear(mlp.down_proj),
    )


def _linear(module: Any) -> Linear:
    bias = getattr(module, "bias", None)
    return Linear(_array(module.weight), None if bias is None else _array(bias))


def _optional(norm: Any) -> Array | None:
    return None if norm is None else _array(norm.weight)


def _array(tensor: torch.Tensor) -> Array:
    array: Array = tensor.detach().numpy()
    return array
