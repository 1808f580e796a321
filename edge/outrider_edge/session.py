"""One generation as the edge sees it: where to draft next, what to send, what became of it.

Pure and synchronous around one speculation tree: drafts and commits in, messages and records out.
Knows nothing of sockets, threads, models or text.
"""

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from outrider_common.errors import ProtocolViolationError
from outrider_common.messages import Commit
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_common.tree import Committed, DraftNode, SpeculationTree, TreeNode
from outrider_edge.arrival import Forecast, Pace
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimates, Estimators
from outrider_edge.expansion import (
    LEAST_GAIN,
    MAX_LEAVES,
    gain_per_step,
    num_leaves,
    num_likelier,
)
from outrider_edge.growing_text import GrowingText
from outrider_edge.guess_tree import Fate, GuessTree, Hung
from outrider_edge.guesses import Candidate, candidates
from outrider_edge.lookahead import Leaf, Lookahead
from outrider_edge.pass_watch import PassWatch
from outrider_edge.pay_off import PayOffWatch
from outrider_edge.policies import AUTO, DraftingPolicy
from outrider_edge.probing import Probing
from outrider_edge.proposer import Draft
from outrider_edge.waiting import DRAFT_SLACK, may_wait

Clock = Callable[[], float]


_Waiting = tuple[float, int, TreeNode, Candidate]
"""Minus what a guess is worth, when it was queued, the node that it hangs from, and itself."""


@dataclass(frozen=True, slots=True)
class DraftPoint:
    """A leaf of the tree to draft from.

    Attributes:
        path: the guesses from the end of the text to the leaf, itself included.
        node_id: the leaf's id; None for a frontier that no draft carried.
        position: where the leaf stands.
    """

    path: tuple[int, ...]
    node_id: int | None
    position: int


@dataclass(frozen=True, slots=True)
class DraftRun:
    """What to ask the proposer for at once.

    Attributes:
        text: all committed tokens, as of now.
        points: the leaves, the most useful first; at least one.
        max_depth: guesses deeper than this below their leaf are not wanted.
        is_probe: it is asked for what can be learnt, and what it gives is sent at any price.
    """

    text: Sequence[int]
    points: tuple[DraftPoint, ...]
    max_depth: int
    is_probe: bool = False

    @property
    def paths(self) -> list[tuple[int, ...]]:
        """Of each leaf the guesses from the end of the text to it."""
        return [point.path for point in self.points]


class EdgeSession:
    """Drafts ahead of the verifier, best first, as far as credit and depth allow.

    A proposer's guesses go to the reserve. Of these, one is sent as soon as it is worth its row, or
    where drafting goes on below it; what a guess is worth: the calibrated chance that its path is
    committed, and the chance that it arrives in time (`expansion`, `arrival`). Commits say what the
    verifier's load allows: how many nodes may be outstanding, and the price of one. Where no step
    is worth its while, nothing is drafted but a probe now and then.

    Args:
        prefix: the prompt, and what was committed before, where the generation is resumed.
        max_outstanding_nodes: the verifier's limit.
        max_depth: nodes ahead of the frontier at most.
        max_length: the most tokens of the whole text; no drafts are made beyond it.
        calibration: what guesses are worth; it learns from what becomes of them. Fresh if None.
        regime: how guesses are made and judged; see `GuessKind`.
        policy: how it may draft.
        estimators: the pace of link, verifier and drafter; they learn from commits. Fresh if None.
        clock: seconds since the request began.
        num_passes: passes that the generation had in earlier sessions.
    """

    def __init__(
        self,
        prefix: tuple[int, ...],
        *,
        max_outstanding_nodes: int,
        max_depth: int,
        max_length: int,
        calibration: Calibration | None = None,
        regime: str = "",
        policy: DraftingPolicy = AUTO,
        estimators: Estimators | None = None,
        clock: Clock = time.perf_counter,
        num_passes: int = 0,
    ) -> None:
        self._guesses = GuessTree(prefix)
        self._tree = self._guesses.shared
        self._max_outstanding_nodes = max_outstanding_nodes
        self._credit = max_outstanding_nodes
        self._price = 0.0
        self._max_depth = max_depth
        self._max_length = max_length
        self._clock = clock
        self._calibration = calibration or Calibration()
        self._regime = regime
        self._policy = policy
        self._is_stuck = False  # there is nothing more to draft for now
        self._awaited_s = -math.inf  # until then nodes may wait for those of the latest run
        self._estimators = estimators or Estimators()
        self._watch = PassWatch(self._estimators, self._guesses)
        self._probing = Probing()
        self._pay_off = PayOffWatch(self._estimators.pay_off(regime))
        self._num_passes = num_passes
        self._ahead = self._look_ahead()

    @property
    def tree(self) -> SpeculationTree:
        """The speculation tree; read it, never change it."""
        return self._tree

    @property
    def num_rests(self) -> int:
        """How often drafting was stopped because it did not pay, or to see whether it does."""
        return self._probing.num_rests + self._pay_off.num_rests

    @property
    def num_probes(self) -> int:
        """How often it was tried again."""
        return self._probing.num_probes

    def hung(self, node_id: int) -> Hung:
        """How a live node came to be."""
        hung = self._guesses.hung(node_id)
        assert hung is not None  # it is forgotten only with the node
        return hung

    # --- drafting -----------------------------------------------------------------------------

    def next_run(self) -> DraftRun | None:
        """The leaves from which a run gives most, or None until something changes."""
        num_outstanding = self._tree.num_outstanding
        self._awaited_s = -math.inf
        if not self._policy.may_draft(self._guesses.num_unsent, num_outstanding):
            return None
        run = self._best_run() if self._room > 0 and not self._rests else None
        self._is_stuck = run is None
        if run is not None and self._policy.block_nodes is None:
            self._awaited_s = self._end_of(run)
        return run

    def _best_run(self) -> DraftRun | None:
        estimates = self._estimators.estimates()
        ranked = self._ranked_leaves(estimates)
        least = LEAST_GAIN if self._policy.adapts else 0.0
        gains = [gain for gain, _ in ranked if gain >= least]
        if gains:
            self._probing.pays(self._tree.frontier.position)
            most = self._room if self._policy.branches else 1
            count = min(max(num_leaves(gains, estimates.leaf_share), 1), most)
        elif ranked and self._may_probe():
            count = 1
        else:
            return None
        nodes = [self._entered(leaf) for _, leaf in ranked[:count]]
        return self._run([node for node in nodes if node], is_probe=not gains)

    def add(self, run: DraftRun, drafts: Sequence[Draft], proposer: str) -> None:
        """Take a proposer's answer to a run; what is worth sending waits in `take_unsent`.

        Commits may have come since the run was handed out: guesses that they confirmed are skipped,
        and what hangs from wrong ones is dropped.

        Args:
            run: what was asked.
            drafts: one for each point.
            proposer: the name of what drafted them, where a draft does not say.
        """
        for i, (point, draft) in enumerate(zip(run.points, drafts, strict=True)):
            depth = len(point.path)
            found = candidates(draft, depth, self._calibration, self._regime, proposer)
            if i == 0:
                self._estimators.expects(found[0].guess.chance if found else 0.0)
            place = self._guesses.find(point.node_id, point.position)
            self._learn(self._guesses.offer(place, found))
        self._send_worthy(0.0 if run.is_probe else self._bar)

    @property
    def has_unsent(self) -> bool:
        """Whether nodes wait to be sent, and need not wait for others."""
        num_unsent = self._guesses.num_unsent
        if num_unsent == 0 or self._is_stuck:
            return num_unsent > 0
        return self._policy.may_send(num_unsent) and not self._may_wait()

    @property
    def patience_s(self) -> float:
        """For so long, seconds from now, nodes that wait to be sent may wait for a run."""
        return max(self._awaited_s - self._clock(), 0.0)

    def take_unsent(self) -> list[DraftNode]:
        """Nodes that were made since the last call and are still alive; ids in order.

        Empty while the policy wants more of them to go together.
        """
        return self._guesses.take_unsent(self._clock()) if self.has_unsent else []

    # --- verdicts -----------------------------------------------------------------------------

    def receive(self, commit: Commit) -> list[TokenRecord]:
        """Make tokens final; one record for each that is new, without its text.

        Raises:
            ProtocolViolationError: the commit does not follow from the text so far, or goes beyond
                its end.
        """
        self._refuse_beyond_end(commit)
        now = self._clock()
        committed, fates = self._guesses.commit(commit.start, commit.tokens)
        self._learn(fates)
        self._compare(commit, len(committed), now)
        self._watch.saw(commit, committed, now)
        if commit.credit is not None:
            self._credit = min(commit.credit, self._max_outstanding_nodes)
        self._price = commit.price
        records = [self._record(entry, commit, now) for entry in committed]
        self._num_passes += 1
        self._guesses.forget_the_dead()
        self._ahead = self._look_ahead()
        if not self._rests:
            self._send_worthy(self._bar)
        return records

    def _refuse_beyond_end(self, commit: Commit) -> None:
        end = commit.start + len(commit.tokens)
        if end > self._max_length:
            raise ProtocolViolationError(
                f"The verifier committed {end} tokens, prompt included, but {self._max_length} are "
                "the most that were asked for; install the same release of outrider on both sides."
            )

    # --- inside: what is worth drafting ---------------------------------------------------------

    @property
    def _rests(self) -> bool:
        """Whether drafting was measured not to pay, or is being compared with a rest.

        What sessions of a policy that adapts have shown says nothing to one of another.
        """
        return self._policy.adapts and self._pay_off.is_resting

    @property
    def _room(self) -> int:
        """How many more nodes may be outstanding."""
        return self._policy.most_nodes(self._credit) - self._tree.num_outstanding

    @property
    def _deepest(self) -> int:
        """The last position for which guesses are wanted.

        The last position of the text is the verifier's own: checking a guess for it costs a row
        and saves no pass.
        """
        return min(self._tree.frontier.position + self._max_depth, self._max_length - 2)

    def _look_ahead(self) -> Lookahead:
        return Lookahead(self._guesses, self._forecast(self._estimators.estimates()))

    def _forecast(self, estimates: Estimates) -> Forecast:
        return Forecast(Pace.of(estimates), self._watch.committed_at_s, self._clock())

    def _ranked_leaves(self, estimates: Estimates) -> list[tuple[float, Leaf]]:
        """What a step from each leaf gives, falling, as far as it may belong to the next run."""
        forecast = self._forecast(estimates)
        leaves = sorted(
            self._allowed(self._ahead.leaves(forecast, self._deepest)),
            key=lambda leaf: -leaf.outlook.probability,
        )
        ranked: list[tuple[float, Leaf]] = []
        for leaf in leaves:
            most = leaf.outlook.probability * estimates.hope
            if ranked and most < max(LEAST_GAIN, estimates.leaf_share * ranked[0][0]):
                break
            if len(ranked) >= MAX_LEAVES and most <= ranked[-1][0]:
                break
            ranked.append((self._gain(leaf, forecast, estimates), leaf))
            ranked.sort(key=lambda entry: -entry[0])
        return ranked

    def _allowed(self, leaves: Iterable[Leaf]) -> Iterable[Leaf]:
        """Without branches, drafting goes on where nothing hangs yet."""
        if self._policy.branches:
            return leaves
        return (leaf for leaf in leaves if leaf.candidate is None)

    def _gain(self, leaf: Leaf, forecast: Forecast, estimates: Estimates) -> float:
        return gain_per_step(
            leaf.outlook,
            forecast,
            hope=estimates.hope,
            price=self._price,
            room=min(self._room, self._deepest - leaf.position),
            num_steps=self._max_length - 2 - leaf.position,
        )

    def _entered(self, leaf: Leaf) -> TreeNode | None:
        """The node to draft from: a guess of the reserve becomes one."""
        return leaf.node if leaf.candidate is None else self._hang(leaf.node, leaf.candidate)

    def _run(self, nodes: Sequence[TreeNode], *, is_probe: bool) -> DraftRun | None:
        if not nodes:
            return None
        points = [
            DraftPoint(
                path=tuple(above.token for above in node.path()),
                node_id=node.ids[0] if node.ids else None,
                position=node.position,
            )
            for node in nodes
        ]
        max_depth = self._deepest - min(node.position for node in nodes)
        return DraftRun(GrowingText(self._tree.tokens), tuple(points), max_depth, is_probe)

    def _may_probe(self) -> bool:
        """Whether to draft although that is not worth its while.

        Not while there are live drafts: then it is only that more of them are not wanted yet.
        """
        if self._tree.num_outstanding and not self._probing.is_probing:
            return False
        num_probes = self._probing.num_probes
        may_ask = self._probing.may_ask(self._tree.frontier.position)
        if self._probing.num_probes > num_probes:
            self._calibration.doubt(self._regime)
        return may_ask

    # --- inside: what is worth sending ----------------------------------------------------------

    @property
    def _bar(self) -> float:
        """What a guess must be worth to be sent."""
        price = self._price if self._policy.adapts else 0.0
        return max(price, self._policy.least_worth)

    def _send_worthy(self, bar: float) -> None:
        """Make nodes of the guesses that are worth it, the best first.

        One waits where guesses that are likelier may still need all the room that there is.
        """
        queue: list[_Waiting] = []
        order = itertools.count()  # of equal ones the earlier first: draws must keep their order
        for node, candidate in self._guesses.reserve():
            self._queue(queue, bar, order, node, [candidate])
        while queue and self._room > 0:
            worth, _, node, candidate = heapq.heappop(queue)
            if node.children and not self._policy.branches:
                continue
            if self._is_crowded_out(-worth):
                break
            child = self._hang(node, candidate)
            if child is not None:
                self._queue(queue, bar, order, child, candidate.below)

    def _queue(
        self,
        queue: list[_Waiting],
        bar: float,
        order: Iterator[int],
        node: TreeNode,
        guesses: Sequence[Candidate],
    ) -> None:
        """Add the guesses below a node that are worth sending."""
        if node.position >= self._deepest:
            return
        now = self._clock()
        for candidate in guesses:
            worth = self._ahead.worth(node, candidate, now)
            if worth > 0 and worth >= bar:
                heapq.heappush(queue, (-worth, next(order), node, candidate))

    def _end_of(self, run: DraftRun) -> float:
        """When a run that begins now is done at the latest, if nothing is amiss."""
        estimates = self._estimators.estimates()
        share = estimates.leaf_share * (len(run.points) - 1)
        return self._clock() + (estimates.draft_s or 0.0) * (1 + share) * DRAFT_SLACK

    def _may_wait(self) -> bool:
        """Whether what is unsent may go with what is being drafted."""
        forecast = self._forecast(self._estimators.estimates())
        return forecast.now_s < self._awaited_s and may_wait(forecast, self._awaited_s)

    def _is_crowded_out(self, worth: float) -> bool:
        """Whether guesses that are still to be made are likelier, and may need all the room."""
        hope = self._estimators.hope
        return num_likelier(worth, self._ahead.open_probabilities(), hope) >= self._room

    def _hang(self, node: TreeNode, candidate: Candidate) -> TreeNode | None:
        child = self._guesses.hang(node, candidate, self._clock())
        if child is not None:
            self._ahead.add(child)
        return child

    def _compare(self, commit: Commit, num_tokens: int, now_s: float) -> None:
        """Whether drafting pays: from how long a pass took, with what it gave."""
        if not self._policy.adapts:
            return
        before_s = self._watch.committed_at_s
        if commit.num_rows > 0 and before_s is not None:
            round_trip_s = self._estimators.estimates().round_trip_s or 0.0
            self._pay_off.saw(num_tokens, now_s - before_s, round_trip_s)

    # --- inside: what is learnt -----------------------------------------------------------------

    def _learn(self, fates: Sequence[Fate]) -> None:
        for fate in fates:
            guess = fate.guess
            self._calibration.observe(guess.kind, guess.own_probability, fate.is_committed)
            if guess.kind.rank == 0:
                self._estimators.decided(fate.is_committed)

    def _record(self, entry: Committed, commit: Commit, now: float) -> TokenRecord:
        origin = _origin(commit, entry.position - commit.start)
        hung = self._guesses.hung(entry.node_id)
        return TokenRecord(
            position=entry.position,
            token=entry.token,
            text="",
            origin=origin,
            committed_at_s=now,
            drafted_at_s=hung.drafted_at_s if hung else None,
            proposer=hung.guess.kind.proposer if hung and origin is TokenOrigin.DRAFTED else None,
            pass_index=self._num_passes,
            num_rows=commit.num_rows,
            logprobs=commit.logprobs[entry.position - commit.start] if commit.logprobs else None,
        )


def _origin(commit: Commit, offset: int) -> TokenOrigin:
    if offset < commit.num_accepted:
        return TokenOrigin.DRAFTED
    if offset < commit.num_accepted + commit.num_guessed:
        return TokenOrigin.GUESSED
    return TokenOrigin.CORRECTED if commit.is_correction else TokenOrigin.HEDGED
