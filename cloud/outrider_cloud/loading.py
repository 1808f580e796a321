"""Loads a causal language model from a local Hugging Face directory, whole or not at all.

Transformers makes up weights that a checkpoint lacks, with a warning; a verifier or an exporter
must not. Knows nothing of what the model is for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from outrider_common.errors import ConfigError, ModelFileError


def load_causal_lm(
    directory: Path,
    refuse: Callable[[Any], None],
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> PreTrainedModel:
    """Load a model for inference.

    Args:
        directory: config.json and safetensors weights.
        refuse: is shown the config before any weights are read; raises if they are not wanted.
        device: where it goes; it is read into the memory of the host first.
        dtype: of its weights.

    Raises:
        ConfigError: the device's memory has no room for it.
        ModelFileError: the directory holds no model that Transformers can load, or weights are
            missing.
    """
    try:
        refuse(AutoConfig.from_pretrained(directory, local_files_only=True))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(
            f"The model in '{directory}' cannot be loaded ({_first_line(error)}); pull it again, "
            "or give a directory with config.json and whole safetensors weights."
        ) from error
    model: PreTrainedModel = loaded[0]
    if missing := sorted(loaded[1]["missing_keys"]):
        raise ModelFileError(
            f"The model in '{directory}' lacks {len(missing)} weights, such as '{missing[0]}'; "
            "pull it again, or give a directory with all of its weights."
        )
    model.train(False)
    return _moved(model, device)


def _moved(model: PreTrainedModel, device: torch.device | str) -> PreTrainedModel:
    try:
        moved: PreTrainedModel = cast(Any, model).to(device)
    except torch.OutOfMemoryError as error:
        size_mib = cast(Any, model).get_memory_footprint() >> 20
        raise ConfigError(
            f"The model of {size_mib} MiB does not fit into what is free of the memory of "
            f"'{device}'; free some, choose a smaller model, or set verifier.device to 'cpu'."
        ) from error
    return moved


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
