"""Builds a drafter from a target: a few of its layers between its own embeddings and head.

Only the layers and the last norm are trained; what is shared with the target stays as it is. Works
on any architecture whose layers stand in a list. Knows nothing of training.
"""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Final, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM, PreTrainedModel

from outrider_common.errors import InvalidInputError, ModelFileError
from outrider_distill.samples import write_whole

State = dict[str, torch.Tensor]

_DESCRIPTION: Final = "outrider_drafter"
_MASKS: Final = "mask_embeddings"

_SCALE: Final = ".scale"
"""Behind the name of a matrix: what its rows are multiplied with."""

_MOST_STEPS: Final = 127
_LEAST_SCALE: Final = 1e-30


def spread_layers(num_target_layers: int, num_layers: int) -> tuple[int, ...]:
    """Which layers to take: the first, the last, and those between at equal distances.

    Raises:
        InvalidInputError: the target does not have so many.
    """
    if not 1 <= num_layers < num_target_layers:
        raise InvalidInputError(
            f"A drafter of {num_layers} layers cannot be made of a target of {num_target_layers}; "
            f"choose 1 to {num_target_layers - 1}."
        )
    if num_layers == 1:
        return (0,)
    step = (num_target_layers - 1) / (num_layers - 1)
    return tuple(round(index * step) for index in range(num_layers))


def build_student(
    target: PreTrainedModel, layers: Sequence[int], masks: Sequence[int] = ()
) -> PreTrainedModel:
    """A model of some layers of the target, with copies of its weights, in fp32.

    Args:
        target: the model that it learns from; is not changed.
        layers: numbers of the target's layers, in the order in which the student has them.
        masks: tokens with whose embeddings the student's own embeddings of masks begin.

    Raises:
        InvalidInputError: the target has no such layer.
    """
    _refuse_unknown_layers(layers, target.config.num_hidden_layers)
    config = deepcopy(target.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = [target.config.layer_types[layer] for layer in layers]
    make: Any = AutoModelForCausalLM
    student: PreTrainedModel = make.from_config(config, dtype=torch.float32)
    student.load_state_dict(_state_of_layers(target.state_dict(), layers))
    student.generation_config = target.generation_config
    if masks:
        embeddings = _embedding(target).detach()[list(masks)].clone()
        student.register_parameter(_MASKS, torch.nn.Parameter(embeddings))
    for name, parameter in student.named_parameters():
        parameter.requires_grad = _is_trained(name)
    return student


def _refuse_unknown_layers(layers: Sequence[int], num_target_layers: int) -> None:
    for layer in layers:
        if not 0 <= layer < num_target_layers:
            raise InvalidInputError(
                f"The target has no layer {layer}; choose from 0 to {num_target_layers - 1}."
            )


def _state_of_layers(state: Mapping[str, torch.Tensor], layers: Sequence[int]) -> State:
    """The target's weights under the names that they have in the student."""
    chosen = {name: weight for name, weight in state.items() if not _is_in_layer(name)}
    for place, layer in enumerate(layers):
        prefix = f"model.layers.{layer}."
        for name, weight in state.items():
            if name.startswith(prefix):
                chosen[f"model.layers.{place}.{name.removeprefix(prefix)}"] = weight
    return chosen


def _is_in_layer(name: str) -> bool:
    return name.startswith("model.layers.")


def _is_trained(name: str) -> bool:
    return _is_in_layer(name) or name in ("model.norm.weight", _MASKS)


def _embedding(model: PreTrainedModel) -> torch.Tensor:
    """[vocab, hidden]."""
    module: Any = cast(Any, model).get_input_embeddings()
    weight: torch.Tensor = module.weight
    return weight


def settle_masks(student: PreTrainedModel, masks: Sequence[int]) -> None:
    """Put the embeddings of masks into rows of the embedding matrix, for a model that is written.

    The LM head keeps these rows as they were: it is untied where it was tied.

    Args:
        student: built with masks; they are no longer its own afterwards.
        masks: the tokens whose rows they take.
    """
    model: Any = student
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False
    with torch.no_grad():
        _embedding(student)[list(masks)] = model.mask_embeddings
    del model.mask_embeddings
    model.config.mask_token_ids = list(masks)


def trained_state(student: PreTrainedModel) -> State:
    """The weights that are the student's own."""
    return {name: weight for name, weight in student.state_dict().items() if _is_trained(name)}


def write_trained(student: PreTrainedModel, path: Path, description: Mapping[str, Any]) -> None:
    """Write the student's own weights: all that has to be shipped beside a target.

    Matrices are written in 8 bits with a scale for each row, the rest in bfloat16: drafters are
    quantised further anyway, and six layers of SmolLM2-135M are 21 MB.

    Args:
        student: whose weights.
        path: the file.
        description: plain values that are kept beside them.
    """
    state: State = {}
    for name, weight in trained_state(student).items():
        state |= _packed(name, weight) if weight.dim() == 2 else {name: weight.to(torch.bfloat16)}
    # One entry, for several would be written in any order.
    content = save(state, {_DESCRIPTION: json.dumps(description, sort_keys=True)})
    write_whole(path, lambda file: file.write(content))


def _packed(name: str, weight: torch.Tensor) -> State:
    """A matrix in 8 bits, and what each of its rows is to be multiplied with."""
    scale = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=_LEAST_SCALE) / _MOST_STEPS
    return {name: (weight / scale).round().to(torch.int8), name + _SCALE: scale}


def _unpacked(state: State) -> State:
    """The weights as they are meant."""
    return {
        name: weight * state[name + _SCALE] if name + _SCALE in state else weight
        for name, weight in state.items()
        if not name.endswith(_SCALE)
    }


def read_description(path: Path) -> dict[str, Any]:
    """What is written beside trained layers: see `write_trained`.

    Raises:
        ModelFileError: the file is damaged, or is something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] | None = file.metadata()
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"'{path}' cannot be read ({error}); get it again.") from error
    if not metadata or _DESCRIPTION not in metadata:
        raise ModelFileError(
            f"'{path}' does not hold the trained layers of a drafter; give what 'outrider models "
            "distill' has written."
        )
    description: dict[str, Any] = json.loads(metadata[_DESCRIPTION])
    return description


def read_trained(student: PreTrainedModel, path: Path) -> None:
    """Give a student weights that were trained before; its masks keep theirs where there are none.

    Raises:
        ModelFileError: the file is damaged, or belongs to a student of another shape.
    """
    try:
        state = _unpacked(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"The trained layers '{path}' cannot be read ({error}); get them again."
        ) from error
    own = trained_state(student)
    if _MASKS in own:
        state.setdefault(_MASKS, own[_MASKS])
    if {name: tensor.shape for name, tensor in state.items()} != {
        name: tensor.shape for name, tensor in own.items()
    }:
        raise ModelFileError(
            f"The trained layers '{path}' do not fit a drafter of {len(own)} weights made of this "
            "target; give as many layers as they have, and the target that they were made of."
        )
    with torch.no_grad():
        for name, weight in state.items():
            own[name].copy_(weight)
