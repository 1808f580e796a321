"""Whether a drafter can be made of a target, from its config alone, before any weights are read."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from outrider_common.errors import ModelFileError, UnsupportedError
from outrider_export import refuse_unknown


def target_config(source: Path) -> Any:
    """The config of a target of which a drafter can be made.

    Raises:
        UnsupportedError: none can be made of it.
        ModelFileError: the config cannot be read.
    """
    try:
        config: Any = AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"'{source}' has no config that can be read; pull it again."
        ) from error
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedError(
            f"A model of type '{config.model_type}' is an encoder and a decoder, and no drafter "
            "can be made of its layers; choose a decoder-only model."
        )
    refuse_unknown(config)
    return config
