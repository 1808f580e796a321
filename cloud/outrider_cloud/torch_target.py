"""A target that is a Transformers model: one forward pass over the rows of many sequences.

Runs Transformers' own modelling code; only attention is ours (`paged_attention`). Knows nothing
of sessions or acceptance.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import torch
from transformers import PreTrainedModel

from outrider_cloud.attention_kernels import PAGE_TOKENS as CPU_PAGE_TOKENS
from outrider_cloud.batched_choice import TensorLogits
from outrider_cloud.cpu_attention import CpuAttention
from outrider_cloud.flex_attention import FlexAttention, bytes_per_page
from outrider_cloud.loading import load_causal_lm
from outrider_cloud.model_passes import (
    MAX_GRAPH_ROWS,
    CudaGraph,
    EagerPasses,
    Passes,
    Record,
    RecordedPasses,
    StaticAttention,
    can_be_recorded,
)
from outrider_cloud.packed_linear import Pack, pack
from outrider_cloud.paged_attention import NAME, KvShape, PagedAttention
from outrider_cloud.paged_sequence import Move
from outrider_cloud.pass_launch import launcher_for
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.plain_attention import PlainAttention
from outrider_cloud.row_padding import RowPadding, next_power_of_two
from outrider_cloud.speed_up import speed_up
from outrider_cloud.target import CPU_KV_CACHE_MIB, CacheShape, Rows, RunningPass, Segment
from outrider_common import log
from outrider_common.errors import ConfigError, UnsupportedError

_logger = logging.getLogger(__name__)

CUDA_KV_CACHE_SHARE: Final = 0.8
"""Of a GPU's free memory, unless told otherwise; the rest is for passes and their logits."""

NO_PADDING: Final = RowPadding()

_KNOWN_LAYERS: Final = frozenset({"full_attention", "sliding_attention"})


class TorchTarget:
    """A causal language model.

    Args:
        model: of the Llama kind: every layer attends to the text or to a window of it. Its
            attention is replaced.
        attention: holds the KV cache.
        padding: to how many rows passes are filled up.
        record: makes recordings of passes; None runs the model's own code for every pass. Needs
            attention whose tensors stay where they are.

    Raises:
        UnsupportedError: the model attends in a way that is not known here.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        attention: PagedAttention,
        padding: RowPadding = NO_PADDING,
        record: Record | None = None,
    ) -> None:
        _refuse_unknown_attention(model.config)
        model.set_attn_implementation(NAME)
        self.model = model
        self._attention = attention
        self._padding = padding
        self._launcher = launcher_for(model.device)
        self._passes: Passes = EagerPasses(model, attention, padding)
        if record is not None:
            static = cast(StaticAttention, attention)
            self._passes = RecordedPasses(model, static, self._passes, record)

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        kv_cache_mib: int | None = None,
        num_threads: int | None = None,
        fixed_rows: int = 0,
        pack: Pack = pack,
    ) -> "TorchTarget":
        """Load a model, with what makes passes of few rows fast on its device.

        Args:
            directory: config and safetensors weights.
            device: `cpu`, `cuda`, or `auto`, which is a GPU if there is one.
            dtype: `float32`, `bfloat16`, or `auto`: the first on the CPU, the second on CUDA.
            kv_cache_mib: the most memory of the KV cache; None is 1024 on the CPU, and on CUDA
                four fifths of what is free when the model is there.
            num_threads: threads of this process for tensor operations; None leaves it to torch.
            fixed_rows: fill every pass up to a multiple of so many rows; 0 does not.
            pack: makes a linear layer fast on the CPU.

        Raises:
            ConfigError: there is no such device, or no room for the model or a KV cache.
            ModelFileError: the directory holds no whole model that Transformers can load.
            UnsupportedError: the model attends in a way that is not known here.
        """
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        place = usable_device(device)
        number_format = _number_format(dtype, place)
        model = load_causal_lm(
            directory, _refuse_unknown_attention, device=place, dtype=number_format
        )
        return cls.around(model, kv_cache_mib=kv_cache_mib, fixed_rows=fixed_rows, pack=pack)

    @classmethod
    def around(
        cls,
        model: PreTrainedModel,
        *,
        kv_cache_mib: int | None = None,
        fixed_rows: int = 0,
        pack: Pack = pack,
    ) -> "TorchTarget":
        """Put a target around a model that is on its device, in its number format; see `load`.

        The path of CUDA (FlexAttention compiled, CUDA graphs) has not been run on a GPU yet.
        """
        if model.device.type == "cuda":
            attention = _cuda_attention(model, kv_cache_mib)
            padding = RowPadding(fixed_rows, MAX_GRAPH_ROWS)
            record = CudaGraph if can_be_recorded(model.config) else None
            return cls(model, attention, padding, record)
        replaced = speed_up(model, pack)
        log.event(_logger, "model_sped_up", **asdict(replaced))
        num_bytes = (kv_cache_mib or CPU_KV_CACHE_MIB) << 20
        return cls(model, _cpu_attention(model, num_bytes), RowPadding(fixed_rows))

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

    @property
    def cache_shape(self) -> CacheShape:
        """How many pages there are, and how large they are; without those kept for padding."""
        shape = self._attention.shape
        num_kept = self._padding.num_pages(shape.page_tokens)
        return replace(shape, num_pages=max(shape.num_pages - num_kept, 0))

    def begin(self, segments: Sequence[Segment]) -> RunningPass:
        """Launch a pass over the rows of several sequences; see `Target.begin`."""
        shape = self.cache_shape
        padded = self._padding.pad(segments, shape.page_tokens, shape.num_pages)
        layout = PassLayout.of(padded, shape.page_tokens)
        return self._launcher.launch(partial(self._passes.logits, layout))

    def forward(self, segments: Sequence[Segment]) -> TensorLogits:
        """See `Target.forward`."""
        logits = self.begin(segments).result()
        assert isinstance(logits, TensorLogits)
        return logits

    def move(self, moves: Sequence[Move]) -> None:
        """Copy what is cached, one slot after the other."""
        self._attention.move(moves)

    def rehearse(self, max_rows: int) -> None:
        """Run passes of every shape, before there is any text in the cache.

        For CUDA: each number of tiles has a kernel, which takes seconds to compile, and each number
        of rows and tiles a recording. All sessions would wait while the first pass makes them.

        Args:
            max_rows: of the largest pass.
        """
        most = next_power_of_two(max_rows)
        for num_rows in (1 << power for power in range(most.bit_length())):
            for size in (1 << power for power in range(num_rows.bit_length())):
                if size <= self._attention.shape.page_tokens:
                    segment = Segment((0,), 0, Rows.chain((0,) * size))
                    self.forward([segment] * (num_rows // size))


def kv_shape(config: Any) -> KvShape:
    """What a model with this config keeps of a token."""
    heads = config.num_attention_heads
    return KvShape(
        num_layers=config.num_hidden_layers,
        num_kv_heads=getattr(config, "num_key_value_heads", None) or heads,
        head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
    )


def usable_device(name: str) -> torch.device:
    """The device that `cpu`, `cuda` or `auto` means here.

    Raises:
        ConfigError: there is no usable GPU.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise ConfigError(
            "The device 'cuda' cannot be used: PyTorch finds no GPU here; set verifier.device to "
            "'cpu' or 'auto', or install a PyTorch build and a driver that fit the GPU."
        )
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def _number_format(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _cpu_attention(model: PreTrainedModel, num_bytes: int) -> PagedAttention:
    kv = kv_shape(model.config)
    if model.dtype == torch.float32:
        return CpuAttention.within(kv, num_bytes, torch.get_num_threads())
    page = bytes_per_page(kv, CPU_PAGE_TOKENS, model.dtype)
    return PlainAttention(kv, num_bytes // page, CPU_PAGE_TOKENS, dtype=model.dtype)


def _cuda_attention(model: PreTrainedModel, kv_cache_mib: int | None) -> FlexAttention:
    free, _ = torch.cuda.mem_get_info(model.device)
    num_bytes = int(CUDA_KV_CACHE_SHARE * free) if kv_cache_mib is None else kv_cache_mib << 20
    kv = kv_shape(model.config)
    group = model.config.num_attention_heads // kv.num_kv_heads
    return FlexAttention.within(kv, num_bytes, group, model.device, model.dtype)


def _refuse_unknown_attention(config: Any) -> None:
    unknown = set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYERS
    if unknown or getattr(config, "attn_logit_softcapping", None):
        kinds = ", ".join(sorted(unknown)) or "capped scores"
        raise UnsupportedError(
            f"The model type '{config.model_type}' attends in a way that is not known here "
            f"({kinds}); choose a model of the Llama, Mistral, Qwen or Gemma 3 kind."
        )
