"""Lets several generations share passes over one draft model.

Drafters of several threads ask for rows at about the same time; whoever finds the model idle
computes what all of them wait for. Knows nothing of runtimes, trees or tokens.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from outrider_edge.graph_pass import Floats, Ids
from outrider_edge.onnx_batch import OnnxBatch, Step
from outrider_edge.onnx_model import OnnxModel, OnnxSequence

LONGEST_WAIT_S: Final = 0.001
"""So long a pass waits for rows of other sequences: a fraction of what a pass takes."""

RECENT_S: Final = 0.05
"""A sequence that had rows computed within this time is expected to have more."""


@dataclass(slots=True, eq=False)
class _Request:
    """Rows that a thread waits for, and what came of them."""

    step: Step
    is_done: bool = False
    logits: Floats | None = None
    error: Exception | None = None


class SharedPasses:
    """Brings rows together that several threads want at the same time.

    There is no thread of its own: one of those that wait computes for all.

    Args:
        compute: one pass, or few, over rows of different sequences.
        longest_wait_s: how long a pass waits for sequences that were computed lately. Where there
            is one sequence only, none does.
        clock: seconds; of any origin.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[Step]], Sequence[Floats]],
        longest_wait_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._compute = compute
        self._longest_wait_s = longest_wait_s
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._is_led = False  # somebody waits for others to join
        self._is_busy = False  # somebody uses the model or its memory
        self._computed_at: dict[int, float] = {}  # by slot

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around what must not happen during a pass."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_busy)
            self._is_busy = True
        try:
            yield
        finally:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def compute(self, step: Step) -> Floats:
        """The logits of a step, from a pass that may be shared.

        Raises:
            Exception: whatever the pass raised.
        """
        request = _Request(step)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
            self._changed.wait_for(lambda: request.is_done or not self._is_led)
            is_leader = not request.is_done
            self._is_led |= is_leader
        if is_leader:
            self._lead()
        if request.error is not None:
            raise request.error
        assert request.logits is not None
        return request.logits

    def _lead(self) -> None:
        """Wait for others, then compute for all that wait."""
        with self._changed:
            self._changed.wait_for(self._nobody_is_missing, self._longest_wait_s)
        with self.alone():
            with self._changed:
                requests, self._waiting = self._waiting, []
            self._answer(requests)
            with self._changed:
                self._is_led = False
                self._changed.notify_all()

    def _nobody_is_missing(self) -> bool:
        """Whether every sequence that was computed lately has rows waiting."""
        since = self._clock() - RECENT_S
        recent = {slot for slot, then in self._computed_at.items() if then >= since}
        return recent <= {request.step.sequence.slot for request in self._waiting}

    def _answer(self, requests: Sequence[_Request]) -> None:
        try:
            results = self._compute([request.step for request in requests])
            for request, logits in zip(requests, results, strict=True):
                request.logits = logits
        except Exception as error:
            for request in requests:
                request.error = error
        now = self._clock()
        for request in requests:
            self._computed_at[request.step.sequence.slot] = now
            request.is_done = True


class BatchedModel:
    """A draft model whose sequences may be used by one thread each, all at the same time.

    Args:
        model: the weights.
        longest_wait_s: how long a pass waits for sequences that were computed lately.
        clock: seconds; of any origin.
    """

    def __init__(
        self,
        model: OnnxModel,
        *,
        longest_wait_s: float = LONGEST_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._batch = OnnxBatch(model)
        self._passes = SharedPasses(self._batch.compute, longest_wait_s, clock)

    @property
    def vocab_size(self) -> int:
        """How many tokens the model can read."""
        return self._model.vocab_size

    @property
    def max_positions(self) -> int:
        """The longest sequence, in tokens."""
        return self._model.max_positions

    @property
    def token_ids(self) -> Ids | None:
        """See `OnnxModel.token_ids`."""
        return self._model.token_ids

    def new_sequence(self) -> "BatchedSequence":
        """An empty sequence."""
        with self._passes.alone():
            return BatchedSequence(self._batch.new_sequence(), self._passes)


class BatchedSequence:
    """A sequence whose rows may go through the model together with those of others.

    Not for several threads at once.

    Args:
        sequence: what it stands for.
        passes: of all sequences of the model.
    """

    def __init__(self, sequence: OnnxSequence, passes: SharedPasses) -> None:
        self._sequence = sequence
        self._passes = passes

    @property
    def length(self) -> int:
        """How many tokens the cached text has."""
        return self._sequence.length

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Floats:
        """See `OnnxSequence.forward`."""
        with self._passes.alone():
            return self._sequence.forward(tokens, num_logits=num_logits)

    def forward_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Floats:
        """See `OnnxSequence.forward_rows`."""
        if len(tokens) == 1:
            rows = self._sequence.begin_rows(tokens, parents, wanted)
            return self._passes.compute(Step(self._sequence, rows))
        with self._passes.alone():
            return self._sequence.forward_rows(tokens, parents, wanted)

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """See `OnnxSequence.keep`."""
        with self._passes.alone():
            self._sequence.keep(rows, num_text)

    def truncate(self, length: int) -> None:
        """See `OnnxSequence.truncate`."""
        self._sequence.truncate(length)
