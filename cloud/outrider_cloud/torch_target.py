"""The plain target: a Transformers model, one sequence per forward pass.

The reference that faster engines are tested against. Runs Transformers' own modelling code with a
tree mask and explicit positions. Knows nothing of sessions or acceptance.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from outrider_cloud.kv_cache import TruncatableCache
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.target import CACHED_TEXT, Logits, Rows
from outrider_common.errors import UnsupportedError


class TorchTarget:
    """A causal language model from a local Hugging Face directory.

    Args:
        model: the model; every layer must attend to the whole text.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        _refuse_partial_attention(model.config)
        self.model = model

    @classmethod
    def load(cls, directory: Path, *, num_threads: int | None = None) -> "TorchTarget":
        """Load in fp32 on the CPU.

        Args:
            directory: config and safetensors weights.
            num_threads: threads of this process for tensor operations; None leaves it to torch.

        Raises:
            ModelFileError: the directory holds no whole model that Transformers can load.
            UnsupportedError: the model has layers that do not attend to the whole text.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        return cls(load_causal_lm(directory, _refuse_partial_attention))

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return int(self.model.config.vocab_size)

    @property
    def max_positions(self) -> int:
        """The most tokens of one sequence."""
        return int(self.model.config.max_position_embeddings)

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ids that end a generation; the generation config knows more of them than the config."""
        for config in (self.model.generation_config, self.model.config):
            eos = getattr(config, "eos_token_id", None)
            if eos is not None:
                return (eos,) if isinstance(eos, int) else tuple(eos)
        return ()

    def new_sequence(self) -> "TorchSequence":
        """An empty KV cache."""
        return TorchSequence(self.model)


class TorchSequence:
    """One sequence of a `TorchTarget`."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._cache = TruncatableCache(model.config.num_hidden_layers)
        self._text_length = 0  # without the rows of the last pass

    @property
    def length(self) -> int:
        """How many tokens the cache holds, those of the last pass included until `keep`."""
        return self._cache.length

    @torch.inference_mode()
    def forward(self, rows: Rows) -> Logits:
        """Compute rows and add them to the cache; see `TargetSequence.forward`."""
        self._text_length = self._cache.length
        device = self._model.device
        positions = torch.tensor([rows.depths()], device=device) + self._text_length
        output = self._model(
            input_ids=torch.tensor([rows.tokens], device=device),
            position_ids=positions,
            attention_mask=self._mask(rows),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=len(rows.tokens) - rows.first_logits_row,
        )
        logits: Logits = output.logits[0].float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def keep(self, row_indices: Sequence[int]) -> None:
        """Of the rows of the last pass keep these as text, in this order, and drop the others."""
        self._cache.keep(self._text_length, row_indices)
        self._text_length = self._cache.length

    def _mask(self, rows: Rows) -> torch.Tensor | None:
        """Added to the attention scores, [1, 1, rows, text + rows]; None: nothing is hidden."""
        num_rows = len(rows.tokens)
        if num_rows == 1:
            return None
        visible = np.ones((num_rows, self._text_length + num_rows), dtype=bool)
        visible[:, self._text_length :] = ancestry(rows.parents)
        mask = torch.zeros(visible.shape, dtype=self._model.dtype, device=self._model.device)
        mask.masked_fill_(
            torch.from_numpy(~visible).to(mask.device), torch.finfo(self._model.dtype).min
        )
        return mask[None, None]


def ancestry(parents: Sequence[int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows each row sees: itself and its ancestors; [rows, rows] of booleans."""
    sees = np.eye(len(parents), dtype=bool)
    for row, parent in enumerate(parents):
        if parent != CACHED_TEXT:
            sees[row] |= sees[parent]
    return sees


def _refuse_partial_attention(config: Any) -> None:
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        raise UnsupportedError(
            f"The model type '{config.model_type}' has layers of the kinds "
            f"{', '.join(sorted(layer_types))}; this verifier runs models whose every layer "
            "attends to the whole text (full_attention)."
        )
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        raise UnsupportedError(
            f"The model type '{config.model_type}' has a sliding window of "
            f"{config.sliding_window} tokens; this verifier runs models whose every layer attends "
            "to the whole text."
        )
