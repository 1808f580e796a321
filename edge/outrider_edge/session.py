"""One generation as the edge sees it: where to draft next, what to send, what became of it.

Pure and synchronous around one speculation tree: drafts and commits in, messages and records out.
Knows nothing of sockets, threads, models or text.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider_common.acceptance import SparseDistribution
from outrider_common.messages import Commit
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_common.tree import AtNode, AtPosition, Committed, DraftNode, SpeculationTree, TreeNode
from outrider_edge.arrival import Forecast, Pace
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.estimators import Estimators
from outrider_edge.expansion import LEAST_GAIN, Outlook, gain_per_step
from outrider_edge.probing import Probing
from outrider_edge.proposer import CONTEXT_END, Draft

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class DraftPoint:
    """A leaf of the tree to draft from.

    Attributes:
        context: all committed tokens and the path to the leaf.
        node_id: the leaf's id; None for a frontier that no draft carried.
        max_tokens: the most guesses that are welcome.
        depth: how many draft nodes are on the path to the leaf, itself included.
        is_probe: it is asked for what can be learnt, and what it gives is sent at any price.
    """

    context: tuple[int, ...]
    node_id: int | None
    max_tokens: int
    depth: int = 0
    is_probe: bool = False

    @property
    def position(self) -> int:
        """Where the last token of the context stands."""
        return len(self.context) - 1


@dataclass(frozen=True, slots=True)
class _Guess:
    """One guess of a draft.

    Attributes:
        token: its token id.
        parent: the index of its parent in the draft, or `CONTEXT_END`.
        kind: as what it is calibrated.
        own_probability: what its proposer says.
        chance: what that is worth, given that its parent is committed.
        source: the distribution that it was drawn from, if it was.
    """

    token: int
    parent: int
    kind: GuessKind
    own_probability: float
    chance: float
    source: SparseDistribution | None


@dataclass(frozen=True, slots=True)
class _Hung:
    """What is remembered of a draft node until it is committed or pruned."""

    guess: _Guess
    path_probability: float
    drafted_at_s: float


@dataclass(frozen=True, slots=True)
class _Pass:
    """When a pass's commit came, and when the pass began as the edge sees it."""

    committed_at_s: float
    began_at_s: float


class EdgeSession:
    """Drafts ahead of the verifier, where a step is worth most, as far as credit and depth allow.

    Commits say what the verifier's load allows: how many nodes may be outstanding, and what one has
    to be worth. Guesses below that price are not sent. What a node is worth: the calibrated chance
    that its path is committed, and the chance that it arrives in time (`expansion`, `arrival`).
    Where no step is worth its while, nothing is drafted but a probe now and then.

    Args:
        prefix: the prompt, and what was committed before, where the generation is resumed.
        max_outstanding_nodes: the verifier's limit.
        max_depth: nodes ahead of the frontier at most.
        max_length: the most tokens of the whole text; no drafts are made beyond it.
        calibration: what guesses are worth; it learns from what becomes of them. Fresh if None.
        regime: how guesses are made and judged; see `GuessKind`.
        estimators: the pace of link, verifier and drafter; they learn from commits. Fresh if None.
        clock: seconds since the request began.
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
        estimators: Estimators | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._tree = SpeculationTree(prefix)
        self._max_outstanding_nodes = max_outstanding_nodes
        self._credit = max_outstanding_nodes
        self._price = 0.0
        self._max_depth = max_depth
        self._max_length = max_length
        self._clock = clock
        self._calibration = calibration or Calibration()
        self._regime = regime
        self._estimators = estimators or Estimators()
        self._probing = Probing()
        self._last_pass: _Pass | None = None
        self._hung: dict[int, _Hung] = {}
        self._silent: set[TreeNode] = set()  # leaves at which the proposer has nothing to say
        self._unsent: list[int] = []  # ids
        self._num_passes = 0

    @property
    def tree(self) -> SpeculationTree:
        """The speculation tree; read it, never change it."""
        return self._tree

    @property
    def num_rests(self) -> int:
        """How often drafting was stopped because it did not pay."""
        return self._probing.num_rests

    @property
    def num_probes(self) -> int:
        """How often it was tried again."""
        return self._probing.num_probes

    # --- drafting -----------------------------------------------------------------------------

    def next_point(self) -> DraftPoint | None:
        """The leaf from which a step is worth most, or None until the tree changes."""
        room = self._credit - self._tree.num_outstanding
        best = self._best_leaf() if room > 0 else None
        if best is None:
            return None
        leaf, gain = best
        pays = gain >= LEAST_GAIN
        if pays:
            self._probing.pays()
        elif not self._may_probe():
            return None
        return DraftPoint(
            context=(*self._tree.tokens, *(node.token for node in leaf.path())),
            node_id=leaf.ids[0] if leaf.ids else None,
            max_tokens=min(room, self._room_below(leaf)),
            depth=leaf.position - self._tree.frontier.position,
            is_probe=not pays,
        )

    def add(self, point: DraftPoint, draft: Draft, proposer: str) -> int:
        """Hang a draft where it was made, as far as that place and its guesses are still alive.

        Commits may have come since the point was handed out: guesses that they confirmed are
        skipped, and what hangs from wrong ones is dropped.

        Returns:
            How many nodes are new; they wait in `take_unsent`.
        """
        guesses = self._guesses(point, draft, proposer)
        self._estimators.expects(guesses[0].chance if guesses else 0.0)
        anchor = self._anchor(point)
        if anchor is None:
            return 0
        price = 0.0 if point.is_probe else self._price
        places: list[TreeNode | int | None] = []
        num_new = 0
        for guess in guesses:
            above = anchor if guess.parent == CONTEXT_END else places[guess.parent]
            place, is_new = self._place(above, guess, price)
            places.append(place)
            num_new += is_new
        if isinstance(anchor, TreeNode) and not anchor.children:
            self._silent.add(anchor)  # nothing to say, or nothing that is worth its price
        return num_new

    def take_unsent(self) -> list[DraftNode]:
        """Nodes that were drafted since the last call and are still alive; ids in order."""
        alive = [node for node in map(self._tree.find, self._unsent) if node is not None]
        self._unsent = []
        return [_as_sent(node) for node in alive]

    # --- verdicts -----------------------------------------------------------------------------

    def receive(self, commit: Commit) -> list[TokenRecord]:
        """Make tokens final; one record for each that is new, without its text.

        Raises:
            ProtocolViolationError: the commit does not follow from the text so far.
        """
        now = self._clock()
        fates = self._fates(commit)
        committed = self._tree.commit(commit.start, commit.tokens)
        for guess, is_committed in fates:
            self._learn(guess, is_committed)
        self._watch(commit, committed, now)
        if commit.credit is not None:
            self._credit = min(commit.credit, self._max_outstanding_nodes)
        self._price = commit.price
        records = [self._record(entry, commit, now) for entry in committed]
        self._num_passes += 1
        self._forget_the_dead()
        return records

    # --- inside: what is worth drafting ---------------------------------------------------------

    def _best_leaf(self) -> tuple[TreeNode, float] | None:
        """The open leaf whose next step gives most, the likeliest on ties, and what it gives."""
        leaves = self._open_leaves()
        if not leaves:
            return None
        committed_at_s = self._last_pass.committed_at_s if self._last_pass else None
        estimates = self._estimators.estimates()
        forecast = Forecast(Pace.of(estimates), committed_at_s, self._clock())
        outlooks = self._outlooks(forecast)
        gains = [
            gain_per_step(
                outlooks[leaf],
                forecast,
                hope=estimates.hope,
                price=self._price,
                room=self._room_below(leaf),
                num_steps=self._max_length - 2 - leaf.position,
            )
            for leaf in leaves
        ]
        best = max(range(len(leaves)), key=lambda i: (gains[i], outlooks[leaves[i]].probability))
        return leaves[best], gains[best]

    def _outlooks(self, forecast: Forecast) -> dict[TreeNode, Outlook]:
        """What is expected of the frontier and of every live node."""
        outlooks = {self._tree.frontier: Outlook(1.0, forecast.first_start_s)}
        for node in self._tree.nodes():
            assert node.parent is not None  # a live node hangs from something
            start_s = outlooks[node.parent].next_start_s
            arrival_s = forecast.arrival_s(self._hung[node.ids[0]].drafted_at_s)
            in_time = forecast.chance(start_s, arrival_s)
            outlooks[node] = Outlook(self._value(node), forecast.next_start_s(start_s, in_time))
        return outlooks

    def _may_probe(self) -> bool:
        """Whether to draft although that is not worth its while.

        Not while there are live drafts: then it is only that more of them are not wanted yet.
        """
        if self._tree.num_outstanding and not self._probing.is_probing:
            return False
        return self._probing.may_ask(self._tree.frontier.position)

    # --- inside: what is learnt -----------------------------------------------------------------

    def _fates(self, commit: Commit) -> list[tuple[_Guess, bool]]:
        """The guesses that a commit is about to decide: those whose parent it confirms.

        What hangs from a refuted guess is never judged, and says nothing.
        """
        fates: list[tuple[_Guess, bool]] = []
        node: TreeNode | None = self._tree.frontier
        for token in commit.tokens[self._tree.num_committed - commit.start :]:
            if node is None:
                break
            fates += [
                (self._hung[child.ids[0]].guess, child.token == token)
                for child in node.children.values()
            ]
            node = node.children.get(token)
        return fates

    def _learn(self, guess: _Guess, is_committed: bool) -> None:
        self._calibration.observe(guess.kind, guess.own_probability, is_committed)
        if guess.kind.rank == 0:
            self._estimators.decided(is_committed)

    def _watch(self, commit: Commit, committed: Sequence[Committed], now: float) -> None:
        """Learn the pace of things from when a commit came."""
        if commit.num_rows == 0:
            return  # no pass: the answer to a cancellation
        began_at_s = now - commit.pass_us / 1e6
        self._estimators.passed(commit.pass_us / 1e6, commit.queue_us / 1e6)
        if self._last_pass is not None:
            self._estimators.waited(now - self._last_pass.committed_at_s)
            for entry in committed:
                is_in_time = entry.position - commit.start < commit.num_accepted
                self._watch_node(entry, is_in_time, self._last_pass.began_at_s, began_at_s)
        self._last_pass = _Pass(now, began_at_s)

    def _watch_node(
        self, entry: Committed, is_in_time: bool, previous_s: float, began_at_s: float
    ) -> None:
        """Learn how long a node travelled, from the starts of two passes."""
        hung = self._hung.get(entry.node_id) if entry.node_id is not None else None
        if hung is None:
            return
        if is_in_time:
            at_least_s, at_most_s = previous_s - hung.drafted_at_s, began_at_s - hung.drafted_at_s
            self._estimators.arrived(at_least_s, at_most_s)
        else:
            self._estimators.came_late(began_at_s - hung.drafted_at_s)

    # --- inside: the tree -----------------------------------------------------------------------

    def _open_leaves(self) -> list[TreeNode]:
        nodes = [self._tree.frontier, *self._tree.nodes()]
        return [
            node
            for node in nodes
            if not node.children and node not in self._silent and self._room_below(node) > 0
        ]

    def _room_below(self, node: TreeNode) -> int:
        """How many more positions may be drafted after a node.

        The last position of the text is the verifier's own: checking a guess for it costs a row
        and saves no pass.
        """
        deepest = min(self._tree.frontier.position + self._max_depth, self._max_length - 2)
        return deepest - node.position

    def _value(self, node: TreeNode) -> float:
        """The chance that a node is committed, by the probabilities of the guesses on its path."""
        from_root = self._from_root(self._tree.frontier)
        return self._from_root(node) / from_root if from_root > 0 else 0.0

    def _from_root(self, node: TreeNode) -> float:
        """The product of probabilities since the last committed token that no draft carried."""
        return self._hung[node.ids[0]].path_probability if node.ids else 1.0

    def _guesses(self, point: DraftPoint, draft: Draft, proposer: str) -> list[_Guess]:
        """The guesses of a draft, with what they are worth."""
        depths: list[int] = []
        ranks: Counter[int] = Counter()  # of the next child, by the parent's index
        guesses: list[_Guess] = []
        sources = draft.drawn_from or (None,) * len(draft.tokens)
        for token, parent, probability, source in zip(
            draft.tokens, draft.parents, draft.probabilities, sources, strict=True
        ):
            depths.append(1 + (point.depth if parent == CONTEXT_END else depths[parent]))
            # Draws are of one kind: an earlier one must never be worth less than a later one, or
            # the later one could be sent alone, as if it had been drawn first.
            rank = 0 if source is not None else ranks[parent]
            ranks[parent] += 1
            kind = GuessKind(proposer, rank, depths[-1], self._regime)
            chance = self._calibration.chance(kind, probability)
            guesses.append(_Guess(token, parent, kind, probability, chance, source))
        return guesses

    def _anchor(self, point: DraftPoint) -> TreeNode | int | None:
        """Where a point is now: a live node, an overtaken position, or nowhere."""
        if point.node_id is None:
            return self._at(point.position)
        live = self._tree.find(point.node_id)
        if live is not None:
            return live
        position = self._tree.committed_position(point.node_id)
        return None if position is None else self._at(position)

    def _at(self, position: int) -> TreeNode | int:
        frontier = self._tree.frontier
        return frontier if position == frontier.position else position

    def _place(
        self, above: TreeNode | int | None, guess: _Guess, price: float
    ) -> tuple[TreeNode | int | None, bool]:
        """Put one guess below `above`; where it is then, and whether it is a new node."""
        if isinstance(above, int):
            agrees = self._tree.tokens[above + 1] == guess.token
            self._learn(guess, agrees)
            return (self._at(above + 1) if agrees else None), False
        if above is None or self._is_full(above):
            return None, False
        child = above.children.get(guess.token)
        if child is not None:
            return child, False
        if self._value(above) * guess.chance < price or not _may_join(above, guess.source):
            return None, False
        return self._hang(above, guess), True

    def _is_full(self, node: TreeNode) -> bool:
        no_credit = self._tree.num_outstanding >= self._credit
        return no_credit or self._room_below(node) < 1

    def _hang(self, above: TreeNode, guess: _Guess) -> TreeNode:
        node_id = self._tree.last_id + 1
        self._hung[node_id] = _Hung(guess, self._from_root(above) * guess.chance, self._clock())
        draft = None if above.children else guess.source
        self._tree.extend([DraftNode(node_id, guess.token, _name(above), draft)])
        self._unsent.append(node_id)
        return above.children[guess.token]

    def _record(self, entry: Committed, commit: Commit, now: float) -> TokenRecord:
        offset = entry.position - commit.start
        origin = _origin(commit, offset)
        hung = self._hung.get(entry.node_id) if entry.node_id is not None else None
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
        )

    def _forget_the_dead(self) -> None:
        frontier = self._tree.frontier
        alive = {node.ids[0] for node in self._tree.nodes()} | set(frontier.ids)
        self._hung = {i: hung for i, hung in self._hung.items() if i in alive}
        self._silent &= {frontier, *self._tree.nodes()}


def _origin(commit: Commit, offset: int) -> TokenOrigin:
    if offset < commit.num_accepted:
        return TokenOrigin.DRAFTED
    return TokenOrigin.CORRECTED if commit.is_correction else TokenOrigin.HEDGED


def _name(parent: TreeNode) -> AtNode | AtPosition:
    """How a message names a parent: the frontier by its position, which both sides know."""
    return AtPosition(parent.position) if parent.parent is None else AtNode(parent.ids[0])


def _may_join(above: TreeNode, source: SparseDistribution | None) -> bool:
    """Whether a guess may become a child: the verifier takes any sibling of a draw for a draw."""
    return above.draft is None or above.draft is source


def _as_sent(node: TreeNode) -> DraftNode:
    assert node.parent is not None  # a live node hangs from something
    is_first = next(iter(node.parent.children.values())) is node
    draft = node.parent.draft if is_first else None
    return DraftNode(node.ids[0], node.token, _name(node.parent), draft)
