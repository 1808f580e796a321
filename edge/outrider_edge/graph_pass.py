"""One pass over the graph of a drafter bundle, for rows of one sequence or of several.

Inputs and outputs are memory of ours that stays bound from pass to pass. Knows nothing of texts,
trees or drafting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from outrider_models.bundle import (
    ATTENTION_BIAS,
    INPUT_IDS,
    LAST_INDEX,
    LOGIT_ROWS,
    LOGITS,
    POSITION_IDS,
    TOTAL_LENGTH,
    KvLayout,
)

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]

INPUTS: Final = frozenset(
    {INPUT_IDS, POSITION_IDS, ATTENTION_BIAS, LAST_INDEX, TOTAL_LENGTH, LOGIT_ROWS}
)
"""What a graph takes besides its KV cache."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one sequence that go to the end of its cache.

    Attributes:
        ids: int64 [rows].
        positions: int64 [rows].
        bias: float32 [rows, total], where total counts what is cached once these rows are.
        wanted: int64 [n], ascending: whose logits are wanted.
    """

    ids: Ids
    positions: Ids
    bias: Floats
    wanted: Ids

    @property
    def total(self) -> int:
        """How many rows the cache has once these are appended."""
        return int(self.bias.shape[1])


class GraphPass:
    """Runs the graph over the caches of some neighbouring slots.

    Args:
        session: holds the weights.
        kv: the layout of the cache.
        caches: [2 * num_layers, batch, num_kv_heads, capacity, head_size]; read and extended.
    """

    def __init__(
        self, session: onnxruntime.InferenceSession, kv: KvLayout, caches: NDArray[Any]
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._inputs: dict[str, NDArray[Any]] = {}
        self._logits_place = (0, 0)  # address and rows of what is bound
        names = zip(kv.input_names(), kv.output_names(), strict=True)
        for cache, (past, present) in zip(caches, names, strict=True):
            place = ("cpu", 0, cache.dtype.type, cache.shape, cache.ctypes.data)
            self._binding.bind_input(past, *place)
            self._binding.bind_output(present, *place)

    def run(self, batch: Sequence[Rows], logits: Floats) -> None:
        """Compute rows, one element of the batch for each slot.

        Args:
            batch: of several, each has one row, and the same are wanted.
            logits: where the logits go, [batch, wanted, draft vocabulary].
        """
        totals = np.array([rows.total for rows in batch], np.int32)
        self._set(INPUT_IDS, np.stack([rows.ids for rows in batch]))
        self._set(POSITION_IDS, np.stack([rows.positions for rows in batch]))
        self._set(ATTENTION_BIAS, _stacked([rows.bias for rows in batch], int(totals.max())))
        self._set(LAST_INDEX, totals - 1)
        self._set(TOTAL_LENGTH, totals.max())
        self._set(LOGIT_ROWS, batch[0].wanted)
        place = (logits.ctypes.data, logits.shape[1])
        if place != self._logits_place:
            self._binding.bind_output(LOGITS, "cpu", 0, np.float32, logits.shape, place[0])
            self._logits_place = place
        self._session.run_with_iobinding(self._binding)

    def _set(self, name: str, value: Any) -> None:
        """Give the graph an input; memory that is bound already and fits is written in place."""
        bound = self._inputs.get(name)
        if bound is not None and bound.shape == value.shape:
            bound[...] = value
            return
        array = self._inputs[name] = np.asarray(value)  # the binding keeps its address only
        self._binding.bind_cpu_input(name, array)


def _stacked(biases: Sequence[Floats], total: int) -> Floats:
    """[batch, 1, rows, total]; what is beyond the end of a sequence is not read."""
    if len(biases) == 1:
        return biases[0][None, None]
    together = np.zeros((len(biases), 1, len(biases[0]), total), np.float32)
    for place, bias in zip(together, biases, strict=True):
        place[0, :, : bias.shape[1]] = bias
    return together
