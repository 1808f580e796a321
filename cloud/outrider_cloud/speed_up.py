"""Makes the passes of a Transformers model faster without knowing its modelling code.

One pass of the model as it is records what each module was given and what it answered. A module of
a known shape is replaced (`fused_modules`) only if the replacement gives the same answer to the
same input; all others stay, so that an unknown model is slower and never wrong.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from outrider_cloud.fused_modules import (
    GatedMlp,
    GroupedAttention,
    PairedRotary,
    RmsNorm,
    paired,
    rotation,
)
from outrider_cloud.packed_linear import Pack, pack, pack_linears

TOLERANCE: Final = 2e-5
"""By how much answers may differ, relative to the largest element: rounding in fp32."""

NUM_TRIAL_ROWS: Final = 8
TRIAL_STRIDE: Final = 5
"""Between the positions of the rows of the recorded pass: angles large enough to be told apart."""

_RECORDING: Final = "outrider_recording"

New = TypeVar("New", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """What was replaced in a model.

    Attributes:
        num_attentions: attention layers.
        num_mlps: gated feed-forward layers.
        num_norms: RMS norms that stand alone.
    """

    num_attentions: int
    num_mlps: int
    num_norms: int


@dataclass(frozen=True, slots=True)
class _Call:
    """What a module was given and what it answered."""

    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    answer: Any


@dataclass(frozen=True, slots=True)
class _AttentionCall:
    """What an attention layer handed to the attention function."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    named: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Recording:
    """One pass of a model as it is."""

    calls: dict[nn.Module, _Call] = field(default_factory=dict)
    attention_calls: dict[int, _AttentionCall] = field(default_factory=dict)


@torch.inference_mode()
def speed_up(model: PreTrainedModel, pack: Pack = pack) -> SpeedUp:
    """Replace what can be replaced, in place; logits stay equal to within rounding.

    Afterwards attention has to be a function of Transformers' attention interface (not `eager`),
    and keys in caches are laid out in another order than Transformers' own.

    Args:
        model: in fp32; others are left as they are.
        pack: makes a linear layer fast, or returns it.

    Returns:
        What was replaced.
    """
    if model.dtype != torch.float32:
        return SpeedUp(0, 0, 0)
    with _recording_attention(model):
        recording = _record(model)
        replacements = _replacements(recording, pack)
    if any(isinstance(new, GroupedAttention) for new in replacements.values()):
        replacements |= _rotaries(model)
    _replace(model, replacements)
    pack_linears(model, pack)
    return _count(model)


@contextmanager
def _recording_attention(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(_RECORDING)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _record(model: PreTrainedModel) -> _Recording:
    recording = _Recording()

    def remember(
        module: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], answer: Any
    ) -> None:
        recording.calls[module] = _Call(arguments, named, answer)

    hooks = [
        module.register_forward_hook(remember, with_kwargs=True)
        for module in model.modules()
        if _is_norm(module) or _is_mlp(module) or _is_attention(module)
    ]
    tokens = torch.arange(NUM_TRIAL_ROWS, device=model.device)[None]
    model(
        input_ids=tokens % model.config.vocab_size,
        position_ids=tokens * TRIAL_STRIDE,
        use_cache=False,
        recorder=recording.attention_calls,
    )
    for hook in hooks:
        hook.remove()
    return recording


def _attend_to_self(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    recorder: dict[int, _AttentionCall],
    **named: Any,
) -> tuple[torch.Tensor, None]:
    """Stands in for attention in a recorded pass: each row gets its own value."""
    recorder[module.layer_idx] = _AttentionCall(query, key, value, named)
    group = query.shape[1] // key.shape[1]
    return value.repeat_interleave(group, dim=1).transpose(1, 2), None


AttentionInterface.register(_RECORDING, _attend_to_self)


def _replacements(recording: _Recording, pack: Pack) -> dict[nn.Module, nn.Module]:
    calls = recording.calls
    norms = _found({old: _norm(old, calls[old]) for old in filter(_is_norm, calls)})
    mlps = _found({old: _mlp(old, calls[old], pack) for old in filter(_is_mlp, calls)})
    return {**norms, **mlps, **_attentions(recording, norms, pack)}


def _attentions(
    recording: _Recording, norms: Mapping[nn.Module, RmsNorm], pack: Pack
) -> dict[nn.Module, GroupedAttention]:
    """All attention layers or none: they share one rotary embedding, which changes its form."""
    layers = list(filter(_is_attention, recording.calls))
    attentions = _found({old: _attention(old, recording, norms, pack) for old in layers})
    return attentions if len(attentions) == len(layers) else {}


def _found(candidates: Mapping[nn.Module, New | None]) -> dict[nn.Module, New]:
    return {old: new for old, new in candidates.items() if new is not None}


def _is_norm(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() == 1 and _eps(module) is not None


def _eps(module: Any) -> float | None:
    eps = getattr(module, "variance_epsilon", None) or getattr(module, "eps", None)
    return eps if isinstance(eps, float) else None


def _norm(module: Any, call: _Call) -> RmsNorm | None:
    """Gemma's norms multiply by one more than their weight; the recorded answer says which."""
    weight = module.weight.detach()
    for scale in (weight, 1 + weight):
        norm = RmsNorm(scale, _eps(module) or 0.0)
        if _is_close(norm(*call.arguments, **call.named), call.answer):
            return norm
    return None


def _is_mlp(module: nn.Module) -> bool:
    return _has_linears(module, "gate_proj", "up_proj", "down_proj") and hasattr(module, "act_fn")


def _mlp(module: Any, call: _Call, pack: Pack) -> GatedMlp | None:
    mlp = GatedMlp(module, pack)
    return mlp if _is_close(mlp(*call.arguments, **call.named), call.answer) else None


def _is_attention(module: nn.Module) -> bool:
    return (
        _has_linears(module, "q_proj", "k_proj", "v_proj")
        and isinstance(getattr(module, "o_proj", None), nn.Linear)
        and all(hasattr(module, name) for name in ("config", "layer_idx", "head_dim"))
    )


def _has_linears(module: nn.Module, *names: str) -> bool:
    """Whether these are linear layers, of which the ones to be stacked agree in having a bias."""
    linears = [getattr(module, name, None) for name in names]
    stacked = [linear for linear in linears if isinstance(linear, nn.Linear)]
    return len(stacked) == len(names) and len({x.bias is None for x in stacked}) == 1


def _attention(
    module: Any, recording: _Recording, norms: Mapping[nn.Module, RmsNorm], pack: Pack
) -> GroupedAttention | None:
    call, inner = recording.calls[module], recording.attention_calls.get(module.layer_idx)
    embeddings = call.named.get("position_embeddings")
    if inner is None or not isinstance(embeddings, tuple):
        return None
    if embeddings[0].shape[-1] != module.head_dim:  # a part of a head is turned
        return None
    own = {name: value for name, value in inner.named.items() if name not in call.named}
    attention = GroupedAttention(module, _head_norms(module, norms), own, pack)
    recorder: dict[int, _AttentionCall] = {}
    named = {**call.named, "position_embeddings": rotation(*embeddings), "recorder": recorder}
    output, _ = attention(*call.arguments, **named)
    is_same = _is_close(output, call.answer[0]) and _are_close(recorder[module.layer_idx], inner)
    return attention if is_same else None


def _head_norms(module: Any, norms: Mapping[nn.Module, RmsNorm]) -> tuple[RmsNorm, RmsNorm] | None:
    pair = (
        norms.get(getattr(module, "q_norm", module)),
        norms.get(getattr(module, "k_norm", module)),
    )
    of_queries, of_keys = pair
    if of_queries is None or of_keys is None:
        return None
    return of_queries, of_keys


def _are_close(paired_call: _AttentionCall, call: _AttentionCall) -> bool:
    order = paired(call.query.shape[-1])
    return (
        _is_close(paired_call.query, call.query[..., order])
        and _is_close(paired_call.key, call.key[..., order])
        and _is_close(paired_call.value, call.value)
    )


def _is_close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if ours.shape != theirs.shape:
        return False
    return bool((ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max())


def _rotaries(model: nn.Module) -> dict[nn.Module, nn.Module]:
    rotaries = (getattr(module, "rotary_emb", None) for module in model.modules())
    return {rotary: PairedRotary(rotary) for rotary in rotaries if isinstance(rotary, nn.Module)}


def _replace(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in replacements:
                setattr(parent, name, replacements[child])


def _count(model: nn.Module) -> SpeedUp:
    kinds = [type(module) for module in model.modules()]
    return SpeedUp(
        num_attentions=kinds.count(GroupedAttention),
        num_mlps=kinds.count(GatedMlp),
        num_norms=kinds.count(RmsNorm),
    )
