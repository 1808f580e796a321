"""One session of the plain engine: its tree, its KV cache, and its next step.

A step is either a chunk of prefill or one verification pass. The tree may be extended from other
threads while a pass runs; a lock guards it, and is never held during a pass. Knows nothing of
other sessions.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider_cloud.engine import Sink
from outrider_cloud.target import Logits, Rows, TargetSequence
from outrider_cloud.verification import Ending, PassPlan, Verdict, plan_pass, walk
from outrider_common.acceptance import AcceptanceRule
from outrider_common.errors import OutriderError, ProtocolViolationError
from outrider_common.messages import Commit, FinishReason, Limits, OpenSession
from outrider_common.tree import DraftNode, SpeculationTree

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class StepLimits:
    """How much of one session a single pass computes.

    Attributes:
        max_nodes: draft nodes checked at most.
        prefill_chunk_tokens: tokens of the prefix computed at most.
    """

    max_nodes: int = 16
    prefill_chunk_tokens: int = 256


class PlainSession:
    """A session that is verified alone.

    Args:
        session_id: a name for logs.
        message: what the edge asked for, already found fit.
        sequence: an empty KV cache of the target.
        rule: how the target's token is chosen.
        ending: where the generation ends.
        limits: what the edge was told.
        step_limits: how much a pass computes.
        sink: takes the events.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        session_id: str,
        message: OpenSession,
        sequence: TargetSequence,
        rule: AcceptanceRule,
        ending: Ending,
        limits: Limits,
        step_limits: StepLimits,
        sink: Sink,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._session_id = session_id
        self._prompt = message.prefix[: message.num_prompt_tokens]
        self._sequence = sequence
        self._rule = rule
        self._ending = ending
        self._limits = limits
        self._step_limits = step_limits
        self._sink = sink
        self._clock = clock
        self._lock = threading.Lock()
        self._tree = SpeculationTree(message.prefix, committed_id_window=limits.committed_id_window)
        self._cancelled = False
        self._runnable_since = clock()

    @property
    def session_id(self) -> str:
        """A name for logs."""
        return self._session_id

    def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Add draft nodes; see `EngineSession.extend`."""
        most = self._limits.max_outstanding_nodes
        with self._lock:
            if self._tree.num_outstanding + len(nodes) > most:
                raise ProtocolViolationError(
                    f"{len(nodes)} more draft nodes beside the {self._tree.num_outstanding} "
                    f"outstanding ones are above the limit of {most} that was announced; wait for "
                    "commits before sending more."
                )
            self._tree.extend(nodes)

    def cancel(self) -> None:
        """Want no more tokens; the session ends before its next pass."""
        self._cancelled = True

    def step(self) -> bool:
        """Run one pass and tell the sink; whether the session goes on."""
        if self._cancelled:
            self._sink(self._cancellation())
            return False
        if self._num_uncached() > 1:
            self._prefill_chunk()
            return True
        return self._verify()

    def fail(self, error: OutriderError) -> None:
        """Tell the sink that the session has failed."""
        self._sink(error)

    def _num_uncached(self) -> int:
        return self._tree.num_committed - self._sequence.length

    def _prefill_chunk(self) -> None:
        start = self._sequence.length
        length = min(self._num_uncached() - 1, self._step_limits.prefill_chunk_tokens)
        tokens = self._tree.tokens[start : start + length]
        self._sequence.forward(Rows.chain(tokens, first_logits_row=length - 1))
        self._sequence.keep(range(length))

    def _verify(self) -> bool:
        with self._lock:
            plan = plan_pass(self._tree, self._ending, self._step_limits.max_nodes)
        began = self._clock()
        logits = self._sequence.forward(plan.rows)
        verdict = walk(plan, logits, self._choose, self._tree.num_committed, self._ending)
        self._sequence.keep(verdict.kept_rows)
        ended = self._clock()
        self._sink(self._commit(plan, verdict, began - self._runnable_since, ended - began))
        self._runnable_since = ended
        return verdict.finish_reason is None

    def _choose(self, logits: Logits, children: Sequence[int], walked: Sequence[int]) -> int:
        text = self._tree.tokens
        output = [*text[len(self._prompt) :], *walked]
        position = len(text) + len(walked)
        return self._rule.choose(logits, position, children, None, self._prompt, output)

    def _commit(self, plan: PassPlan, verdict: Verdict, queue_s: float, pass_s: float) -> Commit:
        with self._lock:
            start = self._tree.num_committed
            self._tree.commit(start, verdict.tokens)
        return Commit(
            start=start,
            tokens=verdict.tokens,
            num_accepted=verdict.num_accepted,
            is_correction=verdict.is_correction,
            finish_reason=verdict.finish_reason,
            queue_us=int(queue_s * 1e6),
            pass_us=int(pass_s * 1e6),
            num_rows=len(plan.rows.tokens),
        )

    def _cancellation(self) -> Commit:
        return Commit(
            start=self._tree.num_committed,
            tokens=(),
            num_accepted=0,
            finish_reason=FinishReason.CANCELLED,
        )
