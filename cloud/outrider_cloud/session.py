"""One session at the verifier: its tree, its pages of the KV cache, and its part in a pass.

A pass does one of two things for a session: compute a chunk of its prefix, or check its drafts. The
tree may be extended from other threads while a pass runs; a lock guards it, and is never held
during a pass. Knows nothing of other sessions.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from outrider_cloud.candidates import drafts_by_worth, with_own_guesses
from outrider_cloud.engine import Sink
from outrider_cloud.engine_meters import SessionFigures
from outrider_cloud.own_guesses import Guesses, OwnGuesses
from outrider_cloud.paged_sequence import Move, PagedSequence
from outrider_cloud.pages import PageKeys, PagePool
from outrider_cloud.ranked_value import RankedValue
from outrider_cloud.scheduler import Grant, Load, Offer
from outrider_cloud.shadow import FinishedText
from outrider_cloud.target import Rows, Segment
from outrider_cloud.verification import Ending, PassPlan, Verdict, Walk, plan_pass, useful_nodes
from outrider_common.acceptance import AcceptanceMode, AcceptanceRule
from outrider_common.errors import ModelFileError, OutriderError, ProtocolViolationError
from outrider_common.messages import Commit, FinishReason, Limits, OpenSession
from outrider_common.tree import DraftNode, SpeculationTree, TreeNode

Clock = Callable[[], float]

MakeGuesses = Callable[[Iterable[int]], Guesses]
"""What guesses for a session that begins with this text."""

DRAFTING_FOR_S = 2.0
"""An edge that has sent a node within this time is taken to be drafting."""

DRAFT_SILENCE_S = 10.0
"""A session that is to wait for drafts goes on without them when none has come for so long."""


class Work(NamedTuple):
    """What one pass does for one session.

    Attributes:
        segment: what the target computes.
        plan: which draft nodes the rows are; None for a chunk of the prefix.
    """

    segment: Segment
    plan: PassPlan | None


class Settled(NamedTuple):
    """When and where a session committed something, as it is told later.

    Attributes:
        start: the position of the first token.
        queue_s: for how long the session could have run before its pass began.
        pass_s: from then until the tokens were committed.
    """

    start: int
    queue_s: float
    pass_s: float


class VerifierSession:
    """A session from its opening to its last commit.

    Args:
        session_id: a name for logs.
        message: what the edge asked for, already found fit.
        pool: where the pages of its KV cache come from.
        rule: how the target's token is chosen.
        ending: where the generation ends.
        limits: what the edge was told.
        sink: takes the events.
        tenant: for whom it runs.
        on_change: called when there may be more to do.
        on_unwanted: called when it is to end before its next pass, perhaps more than once.
        max_own_guesses: guesses of the verifier's own that a pass checks, if the edge allows any.
        make_guesses: what makes these guesses.
        max_unread: it is not decoded while so many commits wait to be `taken`; None: it always is.
        clock: seconds, monotonic.

    Attributes:
        is_paused: its edge has yet to read so much that there should not be more. Kept, as the
            engine asks thousands of sessions before each pass.
        turned_away: why it has to give its place to another one before it has run.
    """

    def __init__(
        self,
        session_id: str,
        message: OpenSession,
        pool: PagePool,
        rule: AcceptanceRule,
        ending: Ending,
        limits: Limits,
        sink: Sink,
        tenant: str = "",
        on_change: Callable[[], None] = lambda: None,
        on_unwanted: Callable[["VerifierSession"], None] = lambda _session: None,
        max_own_guesses: int = 0,
        make_guesses: MakeGuesses = OwnGuesses,
        max_unread: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self._num_prompt_tokens = message.num_prompt_tokens
        self._num_given = len(message.prefix)
        self._num_runner_ups = message.num_runner_ups
        self._num_top_logprobs = message.num_top_logprobs
        self._takes_distributions = message.acceptance.mode is AcceptanceMode.REJECTION
        self._rule = rule
        self._ending = ending
        self._limits = limits
        self._sink = sink
        self._on_change = on_change
        self._on_unwanted = on_unwanted
        self._clock = clock
        self._lock = threading.Lock()
        self._tree = SpeculationTree(message.prefix, committed_id_window=limits.committed_id_window)
        keys = PageKeys(self._tree.tokens, pool.page_tokens, realm=tenant)
        keys.know(self.num_to_prefill // pool.page_tokens)  # now, so that no pass waits for it
        self._sequence = PagedSequence(pool, keys)
        self._node_value = RankedValue()
        self._max_own_guesses = max_own_guesses if message.own_guesses else 0
        self._own_guesses = make_guesses(message.prefix) if self._max_own_guesses else None
        self._candidates: Sequence[TreeNode] = ()
        self._waits_for_drafts = message.waits_for_drafts
        self._holding_since: float | None = None
        self.turned_away: OutriderError | None = None
        self._has_ended = False
        self._max_unread = math.inf if max_unread is None else max_unread
        self._num_unread = 0  # commits
        self.is_paused = False
        self._runnable_since = clock()
        self.figures = SessionFigures(tenant, message.num_prompt_tokens, self._runnable_since)
        self._drafted_at = -DRAFTING_FOR_S

    @property
    def has_run(self) -> bool:
        """Whether it was let in at least once."""
        return self.figures.counts is not None

    @property
    def num_nodes(self) -> int:
        """How many draft nodes its edge has sent."""
        return self._tree.last_id

    @property
    def pages(self) -> Sequence[int]:
        """The pages that it holds."""
        return self._sequence.pages

    @property
    def num_cached_tokens(self) -> int:
        """How many tokens of its text are cached."""
        return self._sequence.length

    @property
    def num_to_prefill(self) -> int:
        """All tokens before the frontier."""
        return self._tree.num_committed - 1

    # --- called from any thread ---------------------------------------------------------------

    def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Add draft nodes; see `EngineSession.extend`. After the end they are of no use."""
        most = self._limits.max_outstanding_nodes
        if self._has_ended:
            return
        if not self._takes_distributions:
            _refuse_distributions(nodes)
        with self._lock:
            if self._tree.num_outstanding + len(nodes) > most:
                raise ProtocolViolationError(
                    f"{len(nodes)} more draft nodes beside the {self._tree.num_outstanding} "
                    f"outstanding ones are above the limit of {most} that was announced; wait for "
                    "commits before sending more."
                )
            self._tree.extend(nodes)
            self._drafted_at = self._clock()
            self._holding_since = None
        self._on_change()

    def end_drafts(self) -> None:
        """No more draft nodes will come: there is nothing to wait for."""
        self._waits_for_drafts = False
        self._on_change()

    def cancel(self) -> None:
        """Want no more tokens; the session ends before its next pass."""
        self._on_unwanted(self)
        self._on_change()

    def taken(self) -> None:
        """One more commit is on its way; see `EngineSession.taken`."""
        with self._lock:
            self._num_unread -= 1
            goes_on = self.is_paused and self._num_unread < self._max_unread
            self.is_paused &= not goes_on
        if goes_on:
            self._on_change()

    def turn_away(self, error: OutriderError) -> None:
        """Give the place to another session; it ends with this error before it has run."""
        self.turned_away = error
        self._on_unwanted(self)

    # --- called by the engine: memory ---------------------------------------------------------

    @property
    def is_prefilling(self) -> bool:
        """Whether tokens before the frontier are not cached yet."""
        return self._sequence.length < self.num_to_prefill

    def adopt_pages(self) -> int:
        """Share the pages of others that hold what prefill computes next; how many tokens."""
        return self._sequence.adopt(self.num_to_prefill)

    def next_page_key(self) -> bytes | None:
        """The key of the page that prefill computes next; None without one that it will fill."""
        return self._sequence.next_key(self.num_to_prefill)

    @property
    def can_adopt(self) -> bool:
        """Whether it could share the next page, if someone else had it."""
        return self._sequence.is_aligned

    def num_missing_pages(self) -> int:
        """How many pages it needs, beside those that it or another has, to commit a token."""
        return self._sequence.num_missing(self._tree.num_committed)

    def reserve(self, num_rows: int) -> bool:
        """Hold pages for the rows of a pass; False if there are too few."""
        return self._sequence.reserve(num_rows)

    def release_pages(self) -> None:
        """Give all pages back; what they held is computed again, or adopted, if it is needed."""
        self._sequence.release()

    # --- called by the engine: passes ---------------------------------------------------------

    def load(self) -> Load:
        """What there is to do."""
        now = self._clock()
        num_uncached = self._tree.num_committed - self._sequence.length
        values: Sequence[float] = ()
        with self._lock:
            self._candidates = ()
            if num_uncached == 1:
                self._candidates, values = self._find_candidates()
            holds_off_s = self._holds_off_s(now)
        return Load(
            key=self.session_id,
            num_uncached=num_uncached,
            node_values=values,
            tenant=self.tenant,
            waiting_s=now - self._runnable_since,
            expects_drafts=now - self._drafted_at < DRAFTING_FOR_S,
            holds_off_s=holds_off_s,
        )

    def plan(self, grant: Grant) -> Work:
        """The rows of the next pass, as far as the grant and the pages go; one row is reserved.

        Drafts are those that were there for the last `load`. They are all alive still: only commits
        prune, and there is none between the two.
        """
        if grant.prefill_tokens:
            return Work(self._prefill_segment(grant.prefill_tokens), None)
        most = min(grant.max_nodes, self._sequence.room - 1)
        has_guesses = self._own_guesses is not None
        plan = plan_pass(self._tree.frontier, self._candidates[:most], has_guesses=has_guesses)
        self._sequence.reserve(len(plan.rows.tokens))
        return Work(Segment(self._sequence.pages, self._sequence.length, plan.rows), plan)

    def walk(self, plan: PassPlan, first_row: int) -> Walk:
        """The way down the tree whose rows begin at `first_row` of the pass's logits."""
        return Walk(
            plan,
            first_row,
            self._rule,
            self._tree.tokens,
            self._num_prompt_tokens,
            self._ending,
            self._num_runner_ups,
            self._num_top_logprobs,
        )

    def finish_prefill(self, work: Work) -> list[Move]:
        """A chunk of the prefix was computed; what has to be copied."""
        return self._sequence.keep(range(len(work.segment.rows.tokens)))

    def finish(self, plan: PassPlan, walk: Walk) -> tuple[Verdict, list[Move]]:
        """Make final what a walk found; what has to be copied.

        Raises:
            ModelFileError: the logits are not numbers.
        """
        if walk.is_unusable:
            raise ModelFileError(
                "The model gave logits that are not numbers; check its weights and the precision "
                "that it runs in."
            )
        verdict = walk.verdict()
        with self._lock:
            self._tree.append(verdict.tokens)
        if self._own_guesses is not None:
            self._own_guesses.go_on(verdict.tokens)
        # Only now: pages are shared under a digest of the text, accepted tokens included.
        moves = self._sequence.keep(verdict.kept_rows)
        self._learn(plan, walk, verdict)
        return verdict, moves

    def settle(self, verdict: Verdict, began: float) -> Settled:
        """What was committed counts from now on, for whether and when it is decoded again."""
        self._has_ended = verdict.finish_reason is not None
        before, now = self._runnable_since, self._clock()
        self._runnable_since = now
        with self._lock:
            self._num_unread += 1
            self.is_paused = self._num_unread >= self._max_unread
        start = self._tree.num_committed - len(verdict.tokens)
        return Settled(start, began - before, now - began)

    def tell(self, verdict: Verdict, settled: Settled, num_rows: int, offer: Offer) -> None:
        """Tell the sink what was committed and settled."""
        self._sink(
            Commit(
                start=settled.start,
                tokens=verdict.tokens,
                num_accepted=verdict.num_accepted,
                num_guessed=verdict.num_guessed,
                is_correction=verdict.is_correction,
                finish_reason=verdict.finish_reason,
                queue_us=int(settled.queue_s * 1e6),
                pass_us=int(settled.pass_s * 1e6),
                num_rows=num_rows,
                credit=min(offer.credit, self._limits.max_outstanding_nodes),
                price=offer.price,
                runner_ups=verdict.runner_ups,
                logprobs=verdict.logprobs,
            )
        )

    def end_cancelled(self) -> None:
        """Tell the sink that the session ended because nobody wants more."""
        self._has_ended = True
        start = self._tree.num_committed
        self._sink(Commit(start, (), 0, finish_reason=FinishReason.CANCELLED))

    def fail(self, error: OutriderError) -> None:
        """Tell the sink that the session has failed."""
        self._has_ended = True
        self._sink(error)

    def finished_text(self) -> FinishedText:
        """What it has written, to be decoded again."""
        return FinishedText(
            tuple(self._tree.tokens), self._num_prompt_tokens, self._num_given, self._rule
        )

    # --- inside -------------------------------------------------------------------------------

    def _find_candidates(self) -> tuple[Sequence[TreeNode], Sequence[float]]:
        """What the next pass may check, and what each is worth; under the lock."""
        frontier = self._tree.frontier
        chances = self._node_value.chances()
        drafts = drafts_by_worth(frontier, useful_nodes(self._tree, self._ending), chances)
        if self._own_guesses is None:
            return list(drafts), list(drafts.values())
        found = with_own_guesses(
            frontier,
            drafts,
            self._own_guesses,
            most=self._max_own_guesses,
            end=self._ending.useless_from,
        )
        return [one.node for one in found], [one.value for one in found]

    def _learn(self, plan: PassPlan, walk: Walk, verdict: Verdict) -> None:
        """Of what rank was right, position by position, as far as drafts were checked."""
        if not plan.num_draft_nodes:
            self._node_value.rest()
            return
        for row, token in zip(verdict.kept_rows, verdict.tokens, strict=False):
            if offered := walk.points[row].children:
                right = offered.index(token) if token in offered else None
                self._node_value.observe(len(offered), right)

    def _holds_off_s(self, now: float) -> float:
        """For how long still to wait for a draft node; under the lock.

        Once that was in vain, there is no more waiting until one comes.
        """
        if not self._waits_for_drafts or self.is_prefilling or not self._may_use_drafts:
            return 0.0
        if any(node.ids for node in self._candidates):
            return 0.0
        if self._holding_since is None:
            self._holding_since = now
        return max(0.0, self._holding_since + DRAFT_SILENCE_S - now)

    @property
    def _may_use_drafts(self) -> bool:
        """Whether a node below the frontier could save a pass."""
        return self._tree.frontier.position + 1 < self._ending.useless_from

    def _prefill_segment(self, num_tokens: int) -> Segment:
        start = self._sequence.length
        tokens = self._tree.tokens[start : start + num_tokens]
        rows = Rows.chain(tokens, first_logits_row=len(tokens))
        return Segment(self._sequence.pages, start, rows)


def _refuse_distributions(nodes: Sequence[DraftNode]) -> None:
    for node in nodes:
        if node.draft is not None:
            raise ProtocolViolationError(
                f"Draft node {node.node_id} comes with a distribution, which this session's "
                f"acceptance mode does not use; send one only in the mode "
                f"'{AcceptanceMode.REJECTION.value}'."
            )
