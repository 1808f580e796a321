"""Turns a GGUF file into a plain Hugging Face model directory in fp32.

Transformers reads the weights, the tokenizer and the chat template out of the file. It refuses to
save a model that it read so, hence the weights move into a fresh model of the same architecture.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from outrider_common.errors import UnsupportedError
from outrider_models.extras import needs_extra


def convert_gguf(gguf_file: Path, directory: Path) -> None:
    """Write config, generation config, fp32 safetensors, tokenizer and chat template.

    Embeddings that are tied stay tied.

    Args:
        gguf_file: the weights, of any architecture that Transformers can read from GGUF.
        directory: where to write; exists.

    Raises:
        MissingExtraError: torch, Transformers, accelerate or gguf is not installed.
        UnsupportedError: Transformers cannot read this file.
    """
    with needs_extra("export", "Converting a GGUF file"):
        for needed_by_transformers in ("accelerate", "gguf"):
            import_module(needed_by_transformers)
        import transformers
        from transformers.utils import logging
    quiet: Any = logging
    quiet.disable_progress_bar()
    folder, name = gguf_file.parent, gguf_file.name
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
        quantised: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=name, dtype="float32"
        )
    except ValueError as error:
        raise UnsupportedError(
            f"Transformers cannot read the model in {gguf_file}: {error}; "
            "use a model in the Hugging Face format."
        ) from error
    _plain_copy(quantised).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _plain_copy(quantised: Any) -> Any:
    """The same weights in a model that does not remember that it came from GGUF."""
    config = type(quantised.config)(**_plain_settings(quantised.config))
    plain = type(quantised)(config)
    plain.load_state_dict(quantised.state_dict())
    plain.tie_weights()
    plain.generation_config = quantised.generation_config
    return plain.eval()


def _plain_settings(config: Any) -> dict[str, Any]:
    settings: dict[str, Any] = config.to_dict()
    settings.pop("quantization_config", None)
    settings["architectures"] = None
    return settings
