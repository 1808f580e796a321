"""How a model's forward pass is run: at once, or as a CUDA graph that was recorded before.

Launching the kernels of a pass of few rows takes a GPU's host longer than running them; a graph
launches all of them together. Knows nothing of sessions.
"""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from outrider_cloud.paged_attention import PagedAttention
from outrider_cloud.pass_layout import PassLayout
from outrider_cloud.row_padding import RowPadding
from outrider_cloud.upload import upload

MAX_GRAPH_ROWS: Final = 256
"""Passes of more rows take longer than their launching: they are not recorded."""

_NUM_WARM_UPS: Final = 3  # compiles, and lets libraries take their memory, before the recording
_CHANGING_ROTATIONS: Final = frozenset({"dynamic", "longrope"})
"""Rotary embeddings that look at the positions on the host."""


class Passes(Protocol):
    """Runs the forward passes of a model."""

    def logits(self, layout: PassLayout) -> Tensor:
        """Compute a pass; the logits of its wanted rows, [wanted, vocab]."""
        ...


class StaticAttention(PagedAttention, Protocol):
    """Attention whose passes of equal shape can be recorded once and replayed."""

    @property
    def pass_shape(self) -> Hashable:
        """Passes for which this is equal use the same tensors and kernels."""
        ...


class Recording(Protocol):
    """A computation that can be run again on what its tensors hold by then."""

    def replay(self) -> Tensor:
        """Run it; what it returns is written over by the next replay."""
        ...


Record = Callable[[Callable[[], Tensor]], Recording]
"""Records a computation over tensors that stay where they are."""


class EagerPasses:
    """Runs the model's own code for every pass.

    Args:
        model: with our attention.
        attention: holds the KV cache.
        padding: of passes, to which the rows of the LM head are filled up, too.
    """

    def __init__(
        self, model: PreTrainedModel, attention: PagedAttention, padding: RowPadding
    ) -> None:
        self._model = model
        self._attention = attention
        self._padding = padding

    def logits(self, layout: PassLayout) -> Tensor:
        """See `Passes.logits`."""
        self._attention.begin(layout)
        device, num_wanted = self._model.device, len(layout.wanted)
        wanted = np.zeros(self._padding.padded(num_wanted), dtype=np.int64)
        wanted[:num_wanted] = layout.wanted
        logits = _run(
            self._model,
            self._attention,
            upload(layout.tokens, device),
            upload(layout.positions, device),
            upload(wanted, device),
        )
        return logits[:num_wanted]


class RecordedPasses:
    """Records the pass of each shape once, with the logits of all its rows, and replays it.

    Passes of many rows, and those that want no logits, are run at once.

    Args:
        model: with our attention.
        attention: whose tensors stay where they are.
        eager: runs what is not recorded.
        record: makes a recording; `CudaGraph`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        attention: StaticAttention,
        eager: EagerPasses,
        record: Record,
    ) -> None:
        self._model = model
        self._attention = attention
        self._eager = eager
        self._record = record
        self._inputs: dict[int, tuple[Tensor, Tensor]] = {}
        self._recordings: dict[Hashable, Recording] = {}

    def logits(self, layout: PassLayout) -> Tensor:
        """See `Passes.logits`."""
        num_rows = len(layout.tokens)
        if num_rows > MAX_GRAPH_ROWS or not len(layout.wanted):
            return self._eager.logits(layout)
        self._attention.begin(layout)
        device = self._model.device
        tokens, positions = self._inputs_of(num_rows)
        tokens.copy_(upload(layout.tokens, device), non_blocking=True)
        positions.copy_(upload(layout.positions, device), non_blocking=True)
        shape = self._attention.pass_shape
        if shape not in self._recordings:

            def compute() -> Tensor:
                return _run(self._model, self._attention, tokens, positions, 0)

            compute()  # makes what is made once, which is no part of the recording
            self._recordings[shape] = self._record(compute)
        logits = self._recordings[shape].replay()
        return logits.index_select(0, upload(layout.wanted, device))

    def _inputs_of(self, num_rows: int) -> tuple[Tensor, Tensor]:
        """Token ids and positions of a pass, [rows] each."""
        if num_rows not in self._inputs:
            both = torch.zeros((2, num_rows), dtype=torch.int64, device=self._model.device)
            self._inputs[num_rows] = (both[0], both[1])
        return self._inputs[num_rows]


class CudaGraph:
    """A computation as a CUDA graph.

    Not run by the tests, which have no GPU; they replay recordings of another kind.

    Args:
        compute: waits for nothing on the host, and reads and writes tensors that stay in place.
    """

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        current = torch.cuda.current_stream()
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_NUM_WARM_UPS):
                compute()
        current.wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=_shared_pool(), capture_error_mode="thread_local"):
            self._output = compute()

    def replay(self) -> Tensor:
        """See `Recording.replay`."""
        self._graph.replay()
        return self._output


def can_be_recorded(config: Any) -> bool:
    """Whether a model's passes wait for nothing on the host, as far as its config tells."""
    rotations = getattr(config, "rope_parameters", None) or {}
    by_layer_type = [part for part in rotations.values() if isinstance(part, dict)]
    kinds = {part.get("rope_type") for part in by_layer_type or [rotations]}
    return not kinds & _CHANGING_ROTATIONS


def _run(
    model: PreTrainedModel,
    attention: PagedAttention,
    tokens: Tensor,
    positions: Tensor,
    wanted: Tensor | int,
) -> Tensor:
    """The logits of the wanted rows, or, for 0, of all: [wanted, vocab]."""
    output = model(
        input_ids=tokens[None],
        position_ids=positions[None],
        use_cache=False,
        logits_to_keep=wanted,
        paged=attention,
    )
    logits: Tensor = output.logits[0]
    return logits


@cache
def _shared_pool() -> Any:
    """The memory of all graphs: none is replayed before the last one's output has been read."""
    return torch.cuda.graph_pool_handle()
