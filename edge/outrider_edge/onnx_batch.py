"""Sequences of one model whose rows can go through the graph in one pass.

A pass is bound by reading the weights, so one row each of several sequences costs little more than
one row of one. GroupQueryAttention takes a batch only with a single row for each sequence: others
are computed by themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from outrider_edge.graph_pass import Floats, Rows
from outrider_edge.kv_slots import KvSlots
from outrider_edge.onnx_model import OnnxModel, OnnxSequence

_FIRST_SLOTS = 1  # memory of slots that nobody took may be touched with that of others


@dataclass(frozen=True, slots=True)
class Step:
    """Rows that a sequence has begun and that are to be computed.

    Attributes:
        sequence: one of the batch's.
        rows: what its `begin_rows` returned.
    """

    sequence: OnnxSequence
    rows: Rows


class OnnxBatch:
    """Makes sequences that share memory. Not for several threads at once, whichever sequences.

    Args:
        model: the weights.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model
        self._slots = KvSlots(model.session, model.kv, model.max_positions, _FIRST_SLOTS)
        self._logits = np.zeros((0, 1, model.num_logits), np.float32)

    def new_sequence(self) -> OnnxSequence:
        """An empty sequence that can be computed together with the others."""
        return OnnxSequence(self._model, self._slots)

    def forward_together(
        self, steps: Sequence[tuple[OnnxSequence, Sequence[int], Sequence[int], Sequence[int]]]
    ) -> list[Floats]:
        """What `forward_rows` of each sequence would compute, in as few passes as can be.

        Args:
            steps: sequences of this batch, each once, with the arguments of `forward_rows`.

        Returns:
            What each would return: float32 [len(wanted), num_logits], valid as long.

        Raises:
            InvalidPromptError: as `forward_rows`; the steps before it have been begun then.
            ValueError: likewise.
        """
        return self.compute([Step(seq, seq.begin_rows(*arguments)) for seq, *arguments in steps])

    def compute(self, steps: Sequence[Step]) -> list[Floats]:
        """Compute rows that have been begun, of each sequence once.

        Returns:
            For each step its logits, as `forward_rows`.
        """
        results: dict[int, Floats] = {}
        for group in self._groups(steps):
            for step, logits in zip(group, self._compute(group), strict=True):
                results[step.sequence.slot] = logits
        return [results[step.sequence.slot] for step in steps]

    def _groups(self, steps: Sequence[Step]) -> Iterator[list[Step]]:
        """Steps that can share a pass: single rows in neighbouring slots."""
        group: list[Step] = []
        for step in sorted(steps, key=lambda step: step.sequence.slot):
            if group and not self._can_join(group[-1], step):
                yield group
                group = []
            group.append(step)
        if group:
            yield group

    def _can_join(self, before: Step, step: Step) -> bool:
        is_neighbour = step.sequence.slot == before.sequence.slot + 1
        return self._model.takes_batches and is_neighbour and _is_single(before, step)

    def _compute(self, group: list[Step]) -> list[Floats]:
        if len(group) == 1:
            return [group[0].sequence.finish_rows(group[0].rows)]
        if len(group) > len(self._logits):
            self._logits = np.empty((len(group), 1, self._model.num_logits), np.float32)
        logits = self._logits[: len(group)]
        self._slots.run(group[0].sequence.slot, [step.rows for step in group], logits)
        return [s.sequence.own_logits(rows) for s, rows in zip(group, logits, strict=True)]


def _is_single(*steps: Step) -> bool:
    return all(len(step.rows.ids) == len(step.rows.wanted) == 1 for step in steps)
