"""A target that is a Transformers model: one forward pass over the rows of many sequences.

Runs Transformers' own modelling code; only attention is ours (`packed_attention`). Knows nothing
of sessions or acceptance.
"""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import PreTrainedModel

from outrider_cloud.kv_cache import KvCache
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.packed_attention import NAME, PackedSegment
from outrider_cloud.packed_linear import pack_linears
from outrider_cloud.target import Logits, Segment
from outrider_common.errors import UnsupportedError

_KNOWN_LAYERS: Final = frozenset({"full_attention", "sliding_attention"})


class TorchTarget:
    """A causal language model from a local Hugging Face directory.

    Args:
        model: of the Llama kind: every layer attends to the text or to a window of it. Its
            attention is replaced.

    Raises:
        UnsupportedError: the model attends in a way that is not known here.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        _refuse_unknown_attention(model.config)
        model.set_attn_implementation(NAME)
        self.model = model

    @classmethod
    def load(cls, directory: Path, *, num_threads: int | None = None) -> "TorchTarget":
        """Load in fp32 on the CPU, with linear layers that are fast for few rows.

        Args:
            directory: config and safetensors weights.
            num_threads: threads of this process for tensor operations; None leaves it to torch.

        Raises:
            ModelFileError: the directory holds no whole model that Transformers can load.
            UnsupportedError: the model attends in a way that is not known here.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        model = load_causal_lm(directory, _refuse_unknown_attention)
        pack_linears(model)
        return cls(model)

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

    def new_sequence(self) -> KvCache:
        """An empty KV cache."""
        return KvCache(self.model.config.num_hidden_layers)

    @torch.inference_mode()
    def forward(self, segments: Sequence[Segment]) -> list[Logits]:
        """Compute the rows of several sequences in one pass; see `Target.forward`."""
        packed = _pack(segments)
        device = self.model.device
        positions = np.concatenate([segment.positions for segment in packed])
        tokens = [token for segment in packed for token in segment.rows.tokens]
        wanted = [
            np.arange(segment.begin + segment.rows.first_logits_row, segment.end)
            for segment in packed
        ]
        output = self.model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.from_numpy(positions)[None].to(device),
            use_cache=False,
            logits_to_keep=torch.from_numpy(np.concatenate(wanted)).to(device),
            packed=packed,
        )
        logits: Logits = output.logits[0].float().cpu().numpy()
        return np.split(logits, list(accumulate(map(len, wanted)))[:-1])


def _pack(segments: Sequence[Segment]) -> list[PackedSegment]:
    lengths = [len(segment.rows.tokens) for segment in segments]
    begins = [0, *accumulate(lengths)][:-1]
    packed: list[PackedSegment] = []
    for segment, begin in zip(segments, begins, strict=True):
        assert isinstance(segment.sequence, KvCache)  # this target made it
        packed.append(PackedSegment(segment.sequence, segment.rows, begin))
    return packed


def _refuse_unknown_attention(config: Any) -> None:
    unknown = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if unknown or getattr(config, "attn_logit_softcapping", None):
        kinds = ", ".join(sorted(unknown)) or "capped scores"
        raise UnsupportedError(
            f"The model type '{config.model_type}' attends in a way that is not known here "
            f"({kinds}); choose a model of the Llama, Mistral, Qwen or Gemma 3 kind."
        )
