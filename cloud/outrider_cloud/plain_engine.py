"""The plain engine: one session's pass at a time, in turn, on a thread of its own.

The reference for faster engines. Admits, takes turns and isolates failures; what a step does is
the session's business. Knows nothing of gRPC.
"""

import logging
import threading
import uuid
from collections import deque
from dataclasses import replace

from outrider_cloud.admission import refuse_unfit
from outrider_cloud.engine import Sink
from outrider_cloud.plain_session import PlainSession, StepLimits
from outrider_cloud.target import Target
from outrider_cloud.verification import Ending
from outrider_common import log
from outrider_common.acceptance import AcceptanceMode, acceptance_rule
from outrider_common.errors import CapacityError, OutriderError, UnavailableError
from outrider_common.messages import Limits, ModelInfo, OpenSession

_logger = logging.getLogger(__name__)


class PlainEngine:
    """Runs a target for many sessions, one forward pass per session and turn.

    Args:
        target: the model.
        model: its id, as clients name it.
        tokenizer_fingerprint: what its token ids mean, as a hash.
        limits: what is announced to edges.
        step_limits: how much a pass computes.
        software_version: announced to clients.
    """

    def __init__(
        self,
        target: Target,
        *,
        model: str,
        tokenizer_fingerprint: str,
        limits: Limits,
        step_limits: StepLimits,
        software_version: str = "",
    ) -> None:
        self._target = target
        self._step_limits = step_limits
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
        self._turns: deque[PlainSession] = deque()
        self._num_sessions = 0
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
        return self._num_sessions

    def start(self) -> None:
        """Start the engine's thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the pass that runs, and fail what is still open."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()
        while (session := self._next_session()) is not None:
            session.fail(UnavailableError("The verifier is shutting down; open a new session."))
            self._num_sessions -= 1

    def open(self, message: OpenSession, sink: Sink) -> PlainSession:
        """Admit a session; see `Engine.open`. Refuses one that does not fit the target."""
        refuse_unfit(message, self._info)
        session = self._make_session(message, sink)
        with self._changed:
            if self._stopping:
                raise UnavailableError("The verifier is shutting down; use another one.")
            if self._num_sessions >= self._info.limits.max_sessions:
                raise CapacityError(
                    f"All {self._num_sessions} sessions of this verifier are taken; try again "
                    "later, or raise verifier.max_sessions."
                )
            self._num_sessions += 1
            self._turns.append(session)
            self._changed.notify()
        return session

    def step(self) -> bool:
        """Let the session whose turn it is run one pass; False if there is none."""
        session = self._next_session()
        if session is None:
            return False
        goes_on = self._step_safely(session)
        with self._changed:
            if goes_on:
                self._turns.append(session)
            else:
                self._num_sessions -= 1
        return True

    def _make_session(self, message: OpenSession, sink: Sink) -> PlainSession:
        eos = () if message.ignore_eos else self._target.eos_token_ids
        max_length = min(message.num_prompt_tokens + message.max_tokens, self._target.max_positions)
        return PlainSession(
            session_id=uuid.uuid4().hex,
            message=replace(message, model=self._info.model),
            sequence=self._target.new_sequence(),
            rule=acceptance_rule(message.acceptance_mode, message.sampling),
            ending=Ending(frozenset((*message.stop_token_ids, *eos)), max_length),
            limits=self._info.limits,
            step_limits=self._step_limits,
            sink=sink,
        )

    def _next_session(self) -> PlainSession | None:
        with self._changed:
            return self._turns.popleft() if self._turns else None

    def _step_safely(self, session: PlainSession) -> bool:
        """One step; a failure ends this session and no other."""
        try:
            return session.step()
        except OutriderError as error:
            session.fail(error)
        except Exception as error:  # whatever a model may raise
            log.event(
                _logger,
                "session_failed",
                level=logging.ERROR,
                error=error,
                session=session.session_id,
            )
            session.fail(
                OutriderError(
                    f"The verifier failed in session {session.session_id}; its log says why."
                )
            )
        return False

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._turns or self._stopping)
                if self._stopping:
                    return
            self.step()
