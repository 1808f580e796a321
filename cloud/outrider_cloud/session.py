"""One session at the verifier: its tree, its KV cache, and its part in a pass.

A pass does one of two things for a session: compute a chunk of its prefix, or check its drafts. The
tree may be extended from other threads while a pass runs; a lock guards it, and is never held
during a pass. Knows nothing of other sessions.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider_cloud.engine import Sink
from outrider_cloud.scheduler import Grant, Load
from outrider_cloud.target import Logits, Rows, Segment, TargetSequence
from outrider_cloud.verification import Ending, PassPlan, Verdict, plan_pass, walk
from outrider_common.acceptance import AcceptanceRule
from outrider_common.errors import OutriderError, ProtocolViolationError
from outrider_common.messages import Commit, FinishReason, Limits, OpenSession
from outrider_common.tree import DraftNode, SpeculationTree

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Work:
    """What one pass does for one session.

    Attributes:
        segment: what the target computes.
        plan: which draft nodes the rows are; None for a chunk of the prefix.
    """

    segment: Segment
    plan: PassPlan | None


class VerifierSession:
    """A session from its opening to its last commit.

    Args:
        session_id: a name for logs.
        message: what the edge asked for, already found fit.
        sequence: an empty KV cache of the target.
        rule: how the target's token is chosen.
        ending: where the generation ends.
        limits: what the edge was told.
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
        sink: Sink,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._session_id = session_id
        self._prompt = message.prefix[: message.num_prompt_tokens]
        self._sequence = sequence
        self._rule = rule
        self._ending = ending
        self._limits = limits
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

    @property
    def is_cancelled(self) -> bool:
        """Whether no more tokens are wanted."""
        return self._cancelled

    # --- called from any thread ---------------------------------------------------------------

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

    # --- called by the engine -----------------------------------------------------------------

    def load(self) -> Load:
        """What there is to do."""
        with self._lock:
            num_draft_nodes = self._tree.num_outstanding
        return Load(self._session_id, self._num_uncached(), num_draft_nodes)

    def plan(self, grant: Grant) -> Work:
        """The rows of the next pass, as far as the grant goes."""
        if grant.prefill_tokens:
            start = self._sequence.length
            tokens = self._tree.tokens[start : start + grant.prefill_tokens]
            rows = Rows.chain(tokens, first_logits_row=len(tokens) - 1)
            return Work(Segment(self._sequence, rows), None)
        with self._lock:
            plan = plan_pass(self._tree, self._ending, grant.max_nodes)
        return Work(Segment(self._sequence, plan.rows), plan)

    def finish(self, work: Work, logits: Logits, began: float) -> bool:
        """Take the logits of a pass, and tell the sink what they commit.

        Args:
            work: what was computed.
            logits: of its rows.
            began: when the pass began, by the session's clock.

        Returns:
            Whether the session goes on.
        """
        if work.plan is None:
            self._sequence.keep(range(len(work.segment.rows.tokens)))
            return True
        verdict = walk(work.plan, logits, self._choose, self._tree.num_committed, self._ending)
        self._sequence.keep(verdict.kept_rows)
        self._sink(self._commit(work.plan, verdict, began))
        return verdict.finish_reason is None

    def end_cancelled(self) -> None:
        """Tell the sink that the session ended because nobody wants more."""
        start = self._tree.num_committed
        self._sink(Commit(start, (), 0, finish_reason=FinishReason.CANCELLED))

    def fail(self, error: OutriderError) -> None:
        """Tell the sink that the session has failed."""
        self._sink(error)

    # --- inside -------------------------------------------------------------------------------

    def _num_uncached(self) -> int:
        return self._tree.num_committed - self._sequence.length

    def _choose(self, logits: Logits, children: Sequence[int], walked: Sequence[int]) -> int:
        text = self._tree.tokens
        output = [*text[len(self._prompt) :], *walked]
        position = len(text) + len(walked)
        return self._rule.choose(logits, position, children, None, self._prompt, output)

    def _commit(self, plan: PassPlan, verdict: Verdict, began: float) -> Commit:
        with self._lock:
            start = self._tree.num_committed
            self._tree.commit(start, verdict.tokens)
        queue_s = began - self._runnable_since
        self._runnable_since = self._clock()
        return Commit(
            start=start,
            tokens=verdict.tokens,
            num_accepted=verdict.num_accepted,
            is_correction=verdict.is_correction,
            finish_reason=verdict.finish_reason,
            queue_us=int(queue_s * 1e6),
            pass_us=int((self._runnable_since - began) * 1e6),
            num_rows=len(plan.rows.tokens),
        )
