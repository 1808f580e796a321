"""The engine: one forward pass after the other, each for as many sessions as the scheduler says.

`step()`: schedule, run, accept, commit, on a thread of its own. Admits sessions and isolates their
failures; who gets which rows is the scheduler's business, what becomes of them the session's. With
a `TurnScheduler` it is the plain engine, one session at a time, that batching is tested against.
Knows nothing of gRPC.
"""

import logging
import threading
import time
import uuid
from collections.abc import Sequence

from outrider_cloud.admission import refuse_unfit
from outrider_cloud.engine import Sink
from outrider_cloud.scheduler import Scheduler
from outrider_cloud.session import VerifierSession, Work
from outrider_cloud.target import Logits, Target
from outrider_cloud.verification import Ending
from outrider_common import log
from outrider_common.acceptance import AcceptanceMode, acceptance_rule
from outrider_common.errors import CapacityError, OutriderError, UnavailableError
from outrider_common.messages import Limits, ModelInfo, OpenSession

_logger = logging.getLogger(__name__)

Assignment = tuple[VerifierSession, Work]


class BatchingEngine:
    """Runs a target for many sessions.

    Args:
        target: the model.
        scheduler: decides who gets which rows of a pass.
        model: its id, as clients name it.
        tokenizer_fingerprint: what its token ids mean, as a hash.
        limits: what is announced to edges.
        software_version: announced to clients.
    """

    def __init__(
        self,
        target: Target,
        scheduler: Scheduler,
        *,
        model: str,
        tokenizer_fingerprint: str,
        limits: Limits,
        software_version: str = "",
    ) -> None:
        self._target = target
        self._scheduler = scheduler
        self._info = ModelInfo(
            model=model,
            vocab_size=target.vocab_size,
            max_positions=target.max_positions,
            tokenizer_fingerprint=tokenizer_fingerprint,
            eos_token_ids=target.eos_token_ids,
            acceptance_modes=(AcceptanceMode.EXACT,),
            limits=limits,
            software_version=software_version,
        )
        self._sessions: dict[str, VerifierSession] = {}  # in the order in which they were opened
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="outrider-engine", daemon=True)

    @property
    def info(self) -> ModelInfo:
        """The target and the limits."""
        return self._info

    @property
    def num_sessions(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the pass that runs, and fail what is still open."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        for session in self._open_sessions():
            self._end_with(
                session, UnavailableError("The verifier is shutting down; open a new session.")
            )

    def open(self, message: OpenSession, sink: Sink) -> VerifierSession:
        """Admit a session; see `Engine.open`. Refuses one that does not fit the target."""
        refuse_unfit(message, self._info)
        session = self._make_session(message, sink)
        with self._changed:
            if self._stopping:
                raise UnavailableError("The verifier is shutting down; use another one.")
            if len(self._sessions) >= self._info.limits.max_sessions:
                raise CapacityError(
                    f"All {len(self._sessions)} sessions of this verifier are taken; try again "
                    "later, or raise verifier.max_sessions."
                )
            self._sessions[session.session_id] = session
            self._changed.notify()
        return session

    def step(self) -> bool:
        """Run one pass; False if there was nothing to do."""
        work = self._schedule()
        began = time.perf_counter()
        for (session, part), logits in self._forward(work):
            self._finish(session, part, logits, began)
        return bool(work)

    def _schedule(self) -> list[Assignment]:
        sessions = self._live_sessions()
        grants = self._scheduler.schedule([session.load() for session in sessions])
        by_id = {session.session_id: session for session in sessions}
        chosen = [(by_id[str(grant.key)], grant) for grant in grants]
        return [(session, session.plan(grant)) for session, grant in chosen]

    def _make_session(self, message: OpenSession, sink: Sink) -> VerifierSession:
        eos = () if message.ignore_eos else self._target.eos_token_ids
        max_length = min(message.num_prompt_tokens + message.max_tokens, self._target.max_positions)
        return VerifierSession(
            session_id=uuid.uuid4().hex,
            message=message,
            sequence=self._target.new_sequence(),
            rule=acceptance_rule(message.acceptance_mode, message.sampling),
            ending=Ending(frozenset((*message.stop_token_ids, *eos)), max_length),
            limits=self._info.limits,
            sink=sink,
        )

    def _open_sessions(self) -> list[VerifierSession]:
        with self._changed:
            return list(self._sessions.values())

    def _live_sessions(self) -> list[VerifierSession]:
        """The sessions that want tokens; those that were cancelled end here."""
        for session in self._open_sessions():
            if session.is_cancelled:
                self._remove(session)
                session.end_cancelled()
        return self._open_sessions()

    def _forward(self, work: Sequence[Assignment]) -> list[tuple[Assignment, Logits]]:
        """The logits of each part; a part that fails ends its own session and no other."""
        if not work:
            return []
        try:
            logits = self._target.forward([part.segment for _, part in work])
        except Exception as error:  # whatever a model may raise
            return self._forward_one_by_one(work, error)
        return list(zip(work, logits, strict=True))

    def _forward_one_by_one(
        self, work: Sequence[Assignment], error: Exception
    ) -> list[tuple[Assignment, Logits]]:
        """After a pass failed: find out whose rows it was that failed."""
        if len(work) == 1:
            self._fail(work[0][0], error)
            return []
        return [result for assignment in work for result in self._forward([assignment])]

    def _finish(self, session: VerifierSession, part: Work, logits: Logits, began: float) -> None:
        try:
            goes_on = session.finish(part, logits, began)
        except Exception as error:  # such as logits that are not numbers
            self._fail(session, error)
        else:
            if not goes_on:
                self._remove(session)

    def _fail(self, session: VerifierSession, error: Exception) -> None:
        if isinstance(error, OutriderError):
            self._end_with(session, error)
            return
        log.event(
            _logger,
            "session_failed",
            level=logging.ERROR,
            error=error,
            session=session.session_id,
        )
        self._end_with(
            session,
            OutriderError(
                f"The verifier failed in session {session.session_id}; its log says why."
            ),
        )

    def _end_with(self, session: VerifierSession, error: OutriderError) -> None:
        self._remove(session)
        session.fail(error)

    def _remove(self, session: VerifierSession) -> None:
        with self._changed:
            self._sessions.pop(session.session_id, None)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._sessions or self._stopping)
                if self._stopping:
                    return
            self.step()
