"""The engine: one forward pass after the other, each for as many sessions as the scheduler says.

`step()`: schedule, run, accept, commit, on a thread of its own. While a pass runs, it does what
does not need the result. Lets sessions in as far as the pages of the KV cache go, and isolates
their failures; who gets which rows is the scheduler's business, what becomes of them the session's.
With a `TurnScheduler` it is the plain engine, one session at a time, that batching is tested
against. Knows nothing of gRPC.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Final, NamedTuple

from outrider_cloud.admission import refuse_unfit
from outrider_cloud.choice import ChoicePoint, PassLogits
from outrider_cloud.engine import Sink
from outrider_cloud.engine_meters import FAILED, TURNED_AWAY, EngineMeters
from outrider_cloud.engine_stats import (
    EngineCounters,
    EngineHoldings,
    EngineStats,
    num_held_tokens,
)
from outrider_cloud.outbox import Outbox
from outrider_cloud.own_guesses import OwnGuesses
from outrider_cloud.paged_sequence import Move, PagedSequence
from outrider_cloud.pages import PageKeys, PagePool
from outrider_cloud.pass_pace import PassPace
from outrider_cloud.row_limits import RowLimits
from outrider_cloud.scheduler import Grant, Load, Offer, PassOutcome, Scheduler
from outrider_cloud.session import MakeGuesses, Settled, VerifierSession, Work
from outrider_cloud.session_book import SessionBook
from outrider_cloud.shadow import ShadowDecoder, ShadowStats
from outrider_cloud.target import DeviceLostError, Rows, RunningPass, Segment, Target
from outrider_cloud.verification import Ending, PassPlan, Verdict, Walk, walk_together
from outrider_common import log
from outrider_common.acceptance import AcceptanceMode, ExactRule
from outrider_common.errors import CapacityError, OutriderError, UnavailableError
from outrider_common.messages import FinishReason, Limits, ModelInfo, Occupancy, OpenSession
from outrider_common.sampling import SamplingParams

_logger = logging.getLogger(__name__)

Assignment = tuple[VerifierSession, Work]

PASSES_PER_SHADOW_PASS: Final = 10
"""While sessions are served, the shadow decode gets one pass after so many of theirs."""


_GREEDY: Final = ExactRule(SamplingParams())
_SAMPLED: Final = ExactRule(SamplingParams(temperature=1.0))

_MOST_US: Final = 2**32 - 1
"""Microseconds that can be told: more than an hour."""


class _Walk(NamedTuple):
    """The way that a pass leads one session, to be walked when it is over."""

    session: VerifierSession
    plan: PassPlan
    walk: Walk


class _Judged(NamedTuple):
    """What a pass commits for one session."""

    session: VerifierSession
    plan: PassPlan
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Launched:
    """A pass that runs, or a part of one: for whom, since when, and what their edges are told."""

    assignments: Sequence[Assignment]
    running: RunningPass
    began: float
    offer: Offer


@dataclass(frozen=True, slots=True)
class _Part:
    """A pass, or a part of one that failed as a whole: whose rows, and where they may lead."""

    assignments: Sequence[Assignment]
    walks: Sequence[_Walk]

    @classmethod
    def of(cls, assignments: Sequence[Assignment]) -> "_Part":
        """The part of these, whose logits stand behind one another."""
        walks: list[_Walk] = []
        first_row = 0
        for session, work in assignments:
            if work.plan is not None:
                walks.append(_Walk(session, work.plan, session.walk(work.plan, first_row)))
            first_row += work.segment.rows.num_logits_rows
        return cls(assignments, walks)


@dataclass(frozen=True, slots=True)
class _Computed:
    """A part of a pass, and its logits."""

    part: _Part
    logits: PassLogits


class BatchingEngine:
    """Runs a target for many sessions.

    Args:
        target: the model.
        scheduler: decides who gets which rows of a pass.
        model: its id, as clients name it.
        tokenizer_fingerprint: what its token ids mean, as a hash.
        limits: what is announced to edges.
        max_waiting_sessions: beside `limits.max_sessions` that run, so many wait at most.
        max_own_guesses: guesses of the verifier's own, of one session, that a pass checks at most.
        make_guesses: what makes them, for each session by itself.
        shadow_rate: the share of sessions whose text is decoded again, plainly, to compare.
        share_prefixes: sessions that begin alike share the pages of that beginning.
        software_version: announced to clients.
        acceptance_modes: those that are offered.
        clock: seconds, monotonic.

    Attributes:
        row_limits: what tenants may use in a second; nobody has a limit at first.
    """

    def __init__(
        self,
        target: Target,
        scheduler: Scheduler,
        *,
        model: str,
        tokenizer_fingerprint: str,
        limits: Limits,
        max_waiting_sessions: int = 0,
        max_own_guesses: int = 0,
        make_guesses: MakeGuesses = OwnGuesses,
        shadow_rate: float = 0.0,
        share_prefixes: bool = True,
        software_version: str = "",
        acceptance_modes: Sequence[AcceptanceMode] = tuple(AcceptanceMode),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target = target
        self._clock = clock
        self._scheduler = scheduler
        self._pool = PagePool(
            target.cache_shape.num_pages, target.cache_shape.page_tokens, shares=share_prefixes
        )
        self._info = ModelInfo(
            model=model,
            vocab_size=target.vocab_size,
            max_positions=min(target.max_positions, self._pool.num_tokens),
            tokenizer_fingerprint=tokenizer_fingerprint,
            eos_token_ids=target.eos_token_ids,
            acceptance_modes=tuple(acceptance_modes),
            limits=limits,
            software_version=software_version,
        )
        self._book = SessionBook(limits.max_sessions, max_waiting_sessions)
        self._unwanted: deque[VerifierSession] = deque()  # from any thread; some twice
        self._max_own_guesses = max_own_guesses
        self._make_guesses = make_guesses
        self._shadow = ShadowDecoder(target, self._pool, shadow_rate)
        self._num_passes_since_shadow = 0
        self._counters = EngineCounters()
        self._meters = EngineMeters()
        self._pace = PassPace()
        self._offer = scheduler.offer
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._num_changes = 0
        self._stopping = False
        self._look_again_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="outrider-engine", daemon=True)
        self._on_failure: Callable[[], object] = lambda: None
        self.row_limits = RowLimits()

    @property
    def info(self) -> ModelInfo:
        """The target and the limits."""
        return self._info

    @property
    def num_sessions(self) -> int:
        """How many sessions are open."""
        return len(self._book)

    @property
    def occupancy(self) -> Occupancy:
        """How many sessions run and wait, and how long a pass takes."""
        num_running = self._book.num_running
        pass_s = self._pace.expected_s(is_at_rest=not num_running)
        return Occupancy(num_running, self._book.num_waiting, min(round(pass_s * 1e6), _MOST_US))

    @property
    def meters(self) -> EngineMeters:
        """What it counts for those who watch it."""
        return self._meters

    @property
    def holdings(self) -> EngineHoldings:
        """What it holds; cheap, however many sessions there are."""
        return EngineHoldings(
            num_running=self._book.num_running,
            num_waiting=self._book.num_waiting,
            pages=self._pool.usage,
            offer=self._offer,
        )

    @property
    def counters(self) -> EngineCounters:
        """What it has done."""
        return self._counters.snapshot()

    @property
    def shadow_stats(self) -> ShadowStats:
        """What the shadow decode has found."""
        return self._shadow.stats

    @property
    def stats(self) -> EngineStats:
        """What the engine has done, and what it holds."""
        held = [session.num_cached_tokens for session in self._book.running]
        pages = [list(session.pages) for session in self._book.running]
        return EngineStats(
            counters=self._counters.snapshot(),
            shadow=self._shadow.stats,
            num_running=self._book.num_running,
            num_waiting=self._book.num_waiting,
            pages=self._pool.usage,
            num_held_tokens=num_held_tokens(held, pages, self._pool.page_tokens),
            page_tokens=self._pool.page_tokens,
            bytes_per_page=self._target.cache_shape.bytes_per_page,
        )

    def warm_up(self, max_rows: int) -> None:
        """Run passes of several sizes over a text of nothing, before the thread is started.

        Afterwards all code is compiled, and the scheduler knows what passes cost.

        Args:
            max_rows: of the largest pass.
        """
        text = [0] * min(max_rows, self._info.max_positions - 1)
        sequence = PagedSequence(self._pool, PageKeys(text, self._pool.page_tokens))
        points: list[tuple[int, float]] = []
        for size in _warm_up_sizes(len(text)):
            times = [self._time_pass(sequence, Rows.chain(text[:size])) for _ in range(4)]
            points += [(size, seconds) for seconds in times[1:]]  # the first one may compile
        sequence.release()
        self._pace.measured_at_rest(median(s for size, s in points if size == 1))
        if len(text) > 1:
            self._scheduler.calibrate(points)

    def _time_pass(self, sequence: PagedSequence, rows: Rows) -> float:
        sequence.reserve(len(rows.tokens))
        began = self._clock()
        logits = self._target.forward([Segment(sequence.pages, 0, rows)])
        logits.choose([ChoicePoint(row, row + 1, _GREEDY) for row in range(logits.num_rows)])
        elapsed = self._clock() - began
        logits.choose([ChoicePoint(0, 1, _SAMPLED)])
        return elapsed

    def start(self, on_failure: Callable[[], object] = lambda: None) -> None:
        """Start the engine's thread.

        Args:
            on_failure: called on that thread if the engine itself fails; all sessions have failed
                then, and no more are taken.
        """
        self._on_failure = on_failure
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the pass that runs, and fail what is still open."""
        self._refuse_from_now_on()
        self._thread.join()
        self._fail_all("The verifier is shutting down; open a new session.")

    def open(
        self, message: OpenSession, sink: Sink, tenant: str = "", max_unread: int | None = None
    ) -> VerifierSession:
        """Admit a session; see `Engine.open`. Refuses one that does not fit the target."""
        refuse_unfit(message, self._info)
        session = self._make_session(message, sink, tenant, max_unread)
        with self._changed:
            if self._stopping:
                raise UnavailableError("The verifier is shutting down; use another one.")
            self._join(session)
        self.wake()
        return session

    def _join(self, session: VerifierSession) -> None:
        try:
            self._book.join(session)
        except CapacityError:
            self._meters.turned_away()
            raise

    def wake(self) -> None:
        """Something has changed: look again for work."""
        with self._changed:
            self._num_changes += 1
            self._changed.notify()

    def step(self) -> bool:
        """Run one pass and tell what it commits; False if there is none worth running now."""
        has_run = self._run_pass()
        self._outbox.deliver()
        return has_run

    def _run_pass(self) -> bool:
        """Run one pass, and while it runs tell what the one before has committed; see `step`.

        What its sessions compute next depends on what it commits, and so does whose turn it is: the
        next pass is scheduled when this one is over. No session of it may gain or lose a page as
        long as it runs.
        """
        self._end_unwanted()
        self._let_in()
        launched = self._launch(self._schedule())
        self._outbox.deliver()
        if launched is not None:
            self._finish(launched)
        return self._step_shadow(is_idle=launched is None) or launched is not None

    def _step_shadow(self, *, is_idle: bool) -> bool:
        """A pass of the shadow decode, if it is its turn: always when there is nothing else."""
        self._num_passes_since_shadow += 1
        if not is_idle and self._num_passes_since_shadow < PASSES_PER_SHADOW_PASS:
            return False
        self._num_passes_since_shadow = 0
        if not self._shadow.is_idle:
            self._outbox.deliver()  # nobody should have to wait for a pass that is not theirs
        return self._shadow.step()

    def _schedule(self) -> list[Assignment]:
        """Who computes what; none only if nobody has anything to compute that is worth it."""
        while True:
            schedule = self._scheduler.schedule(self._loads())
            tenants = (session.tenant for session in self._book.running)
            self._look_again_s = self.row_limits.soonest(tenants, schedule.wait_s)
            assignments = self._assign(schedule.grants)
            if assignments or not schedule.grants:
                return assignments  # else those with grants had to make room: let others run

    def _finish(self, launched: _Launched) -> None:
        """Wait for a pass; accept and commit what it yields."""
        moves: list[Move] = []
        num_tokens = 0
        num_rows = self._count_rows(launched.assignments)
        part = _Part.of(launched.assignments)
        for computed in self._wait_for(launched.running, part):
            for judged in self._judge(computed, moves):
                self._commit(judged, launched)
                num_tokens += len(judged.verdict.tokens)
        self._target.move(moves)
        outcome = PassOutcome(num_rows, num_tokens, self._clock() - launched.began)
        self._scheduler.observe(outcome)
        self._counters.add_pass(outcome.num_rows, outcome.num_tokens, outcome.seconds)
        self._pace.passed(outcome.seconds)
        self._meters.computed(outcome.num_rows, outcome.seconds)

    def _count_rows(self, assignments: Sequence[Assignment]) -> int:
        """The rows of a pass, put down and charged to those whom they serve."""
        for session, work in assignments:
            self._meters.served(session.figures, len(work.segment.rows.tokens))
            self.row_limits.charge(session.tenant, len(work.segment.rows.tokens))
        return sum(len(work.segment.rows.tokens) for _, work in assignments)

    # --- who takes part -----------------------------------------------------------------------

    def _make_session(
        self, message: OpenSession, sink: Sink, tenant: str, max_unread: int | None
    ) -> VerifierSession:
        eos = () if message.ignore_eos else self._target.eos_token_ids
        max_length = min(message.num_prompt_tokens + message.max_tokens, self._info.max_positions)
        return VerifierSession(
            session_id=uuid.uuid4().hex,
            message=message,
            pool=self._pool,
            rule=message.acceptance.rule(message.sampling),
            ending=Ending(frozenset((*message.stop_token_ids, *eos)), max_length),
            limits=self._info.limits,
            sink=self._outbox.sink(sink),
            tenant=tenant,
            on_change=self.wake,
            on_unwanted=self._unwanted.append,
            max_own_guesses=self._max_own_guesses,
            make_guesses=self._make_guesses,
            max_unread=max_unread,
            clock=self._clock,
        )

    def _end_unwanted(self) -> None:
        while self._unwanted:
            session = self._unwanted.popleft()
            if session not in self._book:
                continue
            if session.turned_away is not None:
                self._meters.turned_away()
                self._remove(session, TURNED_AWAY)
                session.fail(session.turned_away)
            else:
                self._remove(session, FinishReason.CANCELLED)
                session.end_cancelled()

    def _let_in(self) -> None:
        """Start waiting sessions as long as there are pages for what all have yet to compute."""
        session = self._book.next_to_start()
        if session is None:
            return
        promised = sum(one.num_missing_pages() for one in self._book.running)
        while session is not None:
            promised += session.num_missing_pages()
            if self._book.num_running and promised > self._pool.num_available:
                self._shadow.drop_current()
                return
            self._book.start(session)
            self._meters.let_in(session.figures, self._clock())
            self._counters.num_prefix_tokens += session.num_to_prefill
            session = self._book.next_to_start()

    def _loads(self) -> list[Load]:
        """What the running sessions could compute.

        Where several begin with the same text, the first computes it and the others wait.
        """
        being_computed: set[bytes] = set()
        return [
            session.load()
            for session in self._book.running
            if not session.is_paused
            and self.row_limits.may_run(session.tenant)
            and (not session.is_prefilling or self._may_prefill(session, being_computed))
        ]

    def _may_prefill(self, session: VerifierSession, being_computed: set[bytes]) -> bool:
        """Whether nobody before it computes the page that it needs next, after sharing others."""
        self._counters.num_prefix_hits += session.adopt_pages()
        key = session.next_page_key() if session.is_prefilling else None
        if key is None:
            return True
        if key in being_computed and session.can_adopt:
            return False
        being_computed.add(key)
        return True

    def _assign(self, grants: Sequence[Grant]) -> list[Assignment]:
        granted = [(self._book.running_by_id(str(grant.key)), grant) for grant in grants]
        placed = [  # one that is placed may make another one of them wait
            (session, grant)
            for session, grant in granted
            if self._make_room(session, max(grant.prefill_tokens, 1))
        ]
        return [(session, session.plan(grant)) for session, grant in placed]

    def _make_room(self, session: VerifierSession, num_rows: int) -> bool:
        """Reserve rows; while there are no pages, the youngest session gives up its own."""
        while self._book.is_running(session):
            if session.reserve(num_rows):
                return True
            if self._shadow.drop_current():
                continue
            youngest = self._book.running[-1]
            youngest.release_pages()
            self._book.suspend(youngest)
            youngest.figures.waiting_since = self._clock()
            self._counters.num_preemptions += 1
        return False

    # --- a pass -------------------------------------------------------------------------------

    def _launch(self, assignments: Sequence[Assignment]) -> _Launched | None:
        """Start a pass, if there is anything to compute."""
        if not assignments:
            return None
        began = self._clock()
        running = self._begin(assignments)
        self._offer = self._scheduler.offer
        return _Launched(assignments, running, began, self._offer)

    def _begin(self, assignments: Sequence[Assignment]) -> RunningPass:
        """A pass that runs; one that cannot even be launched fails when it is waited for."""
        try:
            return self._target.begin([work.segment for _, work in assignments])
        except Exception as error:  # whatever a model may raise
            failed: Future[PassLogits] = Future()
            failed.set_exception(error)
            return failed

    def _wait_for(self, running: RunningPass, part: _Part) -> list[_Computed]:
        """The logits of a pass; a part that fails ends its own session and no other."""
        try:
            return [_Computed(part, running.result())]
        except DeviceLostError:
            raise  # no other part would fare better
        except Exception as error:  # whatever a model may raise
            return self._compute_one_by_one(part.assignments, error)

    def _compute_one_by_one(
        self, assignments: Sequence[Assignment], error: Exception
    ) -> list[_Computed]:
        """After a pass failed: find out whose rows it was that failed."""
        if len(assignments) == 1:
            self._fail(assignments[0][0], error)
            return []
        return [
            computed
            for one in assignments
            for computed in self._wait_for(self._begin([one]), _Part.of([one]))
        ]

    def _judge(self, computed: _Computed, moves: list[Move]) -> Iterator[_Judged]:
        """What the logits commit, session by session; adds what has to be copied to `moves`."""
        for session, work in computed.part.assignments:
            if work.plan is None:
                moves += session.finish_prefill(work)
        self._walk(computed.part.walks, computed.logits)
        for session, plan, walk in computed.part.walks:
            try:
                verdict, own_moves = session.finish(plan, walk)
            except OutriderError as error:
                self._fail(session, error)
            else:
                moves += own_moves
                yield _Judged(session, plan, verdict)

    def _walk(self, walks: Sequence[_Walk], logits: PassLogits) -> None:
        """All together; if that fails, one by one, to find out whose rule it was."""
        try:
            walk_together([one.walk for one in walks], logits)
        except DeviceLostError:
            raise  # no other walk would fare better
        except Exception as error:  # whatever a rule may raise
            if len(walks) == 1:
                _log_failure(walks[0].session, error)
                walks[0].walk.is_unusable = True
                return
            for one in walks:
                self._walk([one], logits)

    def _commit(self, judged: _Judged, launched: _Launched) -> None:
        """Settle what the next pass depends on; count and tell the rest while that one runs."""
        settled = judged.session.settle(judged.verdict, launched.began)
        self._outbox.later(partial(self._tell, judged, settled, launched))
        if judged.verdict.finish_reason is not None:
            self._remove(judged.session, judged.verdict.finish_reason)

    def _tell(self, judged: _Judged, settled: Settled, launched: _Launched) -> None:
        session, plan, verdict = judged
        num_drafts, counters = plan.num_draft_nodes, self._counters
        counters.num_drafts += num_drafts > 0
        counters.num_draft_tokens += num_drafts
        counters.num_accepted_tokens += verdict.num_accepted
        counters.num_own_guesses += len(plan.own_rows)
        counters.num_right_own_guesses += verdict.num_guessed
        began, committed = launched.began, launched.began + settled.pass_s
        self._meters.committed(session.figures, verdict, num_drafts, began, committed)
        session.tell(verdict, settled, len(plan.rows.tokens), launched.offer)

    # --- failures and the end -----------------------------------------------------------------

    def _fail(self, session: VerifierSession, error: Exception) -> None:
        self._remove(session, FAILED)
        if not isinstance(error, OutriderError):
            _log_failure(session, error)
            error = OutriderError(
                f"The verifier failed in session {session.session_id}; its log says why."
            )
        session.fail(error)

    def _remove(self, session: VerifierSession, how: str) -> None:
        """End it for the engine; it is counted when it has been told what it committed before."""
        self._book.leave(session)
        ended = partial(self._meters.ended, session.figures, how, session.num_nodes, self._clock())
        self._outbox.later(ended)
        self._shadow.offer(session.finished_text())
        session.release_pages()

    def _fail_all(self, sentence: str) -> None:
        for session in (*self._book.running, *self._book.waiting):
            self._fail(session, UnavailableError(sentence))
        self._outbox.deliver()

    def _refuse_from_now_on(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def _run(self) -> None:
        try:
            while not self._stopping:
                seen = self._num_changes
                if not self._run_pass():
                    self._wait_for_change(seen)
        except Exception as error:  # a fault of ours: no session can be served any more
            log.event(_logger, "engine_failed", level=logging.ERROR, error=error)
            self._refuse_from_now_on()
            self._fail_all("The verifier has failed; open a new session elsewhere.")
            self._on_failure()

    def _wait_for_change(self, seen: int) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or self._num_changes != seen, self._look_again_s
            )


def _warm_up_sizes(most: int) -> list[int]:
    """Powers of two, what lies in the middle between them, and the most; falling."""
    powers = [1 << i for i in range(most.bit_length())]
    sizes = {*powers, *(power * 3 // 2 for power in powers), most}
    return sorted((size for size in sizes if size <= most), reverse=True)


def _log_failure(session: VerifierSession, error: Exception) -> None:
    log.event(
        _logger, "session_failed", level=logging.ERROR, error=error, session=session.session_id
    )
