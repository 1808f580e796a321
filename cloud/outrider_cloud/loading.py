"""Loads a causal language model from a local Hugging Face directory, whole or not at all.

Transformers makes up weights that a checkpoint lacks, with a warning; a verifier or an exporter
must not. Knows nothing of what the model is for.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from outrider_common.errors import ModelFileError


def load_causal_lm(directory: Path, refuse: Callable[[Any], None]) -> PreTrainedModel:
    """Load a model in fp32 on the CPU, for inference.

    Args:
        directory: config.json and safetensors weights.
        refuse: is shown the config before any weights are read; raises if they are not wanted.

    Raises:
        ModelFileError: the directory holds no model that Transformers can load, or weights are
            missing.
    """
    try:
        refuse(AutoConfig.from_pretrained(directory, local_files_only=True))
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True, output_loading_info=True
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
    return model


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
