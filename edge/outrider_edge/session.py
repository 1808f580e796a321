"""One generation as the edge sees it: where to draft next, what to send, what became of it.

Pure and synchronous around one speculation tree: drafts and commits in, messages and records out.
Knows nothing of sockets, threads, models or text.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from outrider_common.messages import Commit
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_common.tree import AtNode, AtPosition, Committed, DraftNode, SpeculationTree, TreeNode
from outrider_edge.proposer import CONTEXT_END, Draft

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class DraftPoint:
    """A leaf of the tree to draft from.

    Attributes:
        context: all committed tokens and the path to the leaf.
        node_id: the leaf's id; None for a frontier that no draft carried.
        max_tokens: the most guesses that are welcome.
    """

    context: tuple[int, ...]
    node_id: int | None
    max_tokens: int

    @property
    def position(self) -> int:
        """Where the last token of the context stands."""
        return len(self.context) - 1


@dataclass(frozen=True, slots=True)
class _Guess:
    """What is remembered of a draft node until it is committed or pruned."""

    path_probability: float
    drafted_at_s: float
    proposer: str


class EdgeSession:
    """Drafts ahead of the verifier, from the likeliest leaf, as far as credit and depth allow.

    Commits say what the verifier's load allows: how many nodes may be outstanding, and what one has
    to be worth. Guesses below that price are not sent.

    Args:
        prefix: the prompt, and what was committed before, where the generation is resumed.
        max_outstanding_nodes: the verifier's limit.
        max_depth: nodes ahead of the frontier at most.
        max_length: the most tokens of the whole text; no drafts are made beyond it.
        clock: seconds since the request began.
    """

    def __init__(
        self,
        prefix: tuple[int, ...],
        *,
        max_outstanding_nodes: int,
        max_depth: int,
        max_length: int,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._tree = SpeculationTree(prefix)
        self._max_outstanding_nodes = max_outstanding_nodes
        self._credit = max_outstanding_nodes
        self._price = 0.0
        self._max_depth = max_depth
        self._max_length = max_length
        self._clock = clock
        self._guesses: dict[int, _Guess] = {}
        self._silent: set[TreeNode] = set()  # leaves at which the proposer has nothing to say
        self._unsent: list[int] = []  # ids
        self._num_passes = 0

    @property
    def tree(self) -> SpeculationTree:
        """The speculation tree; read it, never change it."""
        return self._tree

    # --- drafting -----------------------------------------------------------------------------

    def next_point(self) -> DraftPoint | None:
        """The likeliest leaf that there is room to draft from, or None until the tree changes."""
        room = self._credit - self._tree.num_outstanding
        if room < 1:
            return None
        leaf = max(self._open_leaves(), key=self._value, default=None)
        if leaf is None or self._value(leaf) < self._price:
            return None
        return DraftPoint(
            context=(*self._tree.tokens, *(node.token for node in leaf.path())),
            node_id=leaf.ids[0] if leaf.ids else None,
            max_tokens=min(room, self._room_below(leaf)),
        )

    def add(self, point: DraftPoint, draft: Draft, proposer: str) -> int:
        """Hang a draft where it was made, as far as that place and its guesses are still alive.

        Commits may have come since the point was handed out: guesses that they confirmed are
        skipped, and what hangs from wrong ones is dropped.

        Returns:
            How many nodes are new; they wait in `take_unsent`.
        """
        anchor = self._anchor(point)
        if anchor is None:
            return 0
        places: list[TreeNode | int | None] = []
        num_new = 0
        for token, parent, probability in zip(
            draft.tokens, draft.parents, draft.probabilities, strict=True
        ):
            above = anchor if parent == CONTEXT_END else places[parent]
            place, is_new = self._place(above, token, probability, proposer)
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
        committed = self._tree.commit(commit.start, commit.tokens)
        if commit.credit is not None:
            self._credit = min(commit.credit, self._max_outstanding_nodes)
        self._price = commit.price
        records = [self._record(entry, commit, now) for entry in committed]
        self._num_passes += 1
        self._forget_the_dead()
        return records

    # --- inside -------------------------------------------------------------------------------

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
        return self._guesses[node.ids[0]].path_probability if node.ids else 1.0

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
        self, above: TreeNode | int | None, token: int, probability: float, proposer: str
    ) -> tuple[TreeNode | int | None, bool]:
        """Put one guess below `above`; where it is then, and whether it is a new node."""
        if isinstance(above, int):
            agrees = self._tree.tokens[above + 1] == token
            return (self._at(above + 1) if agrees else None), False
        if above is None or self._is_full(above):
            return None, False
        child = above.children.get(token)
        if child is not None:
            return child, False
        if self._value(above) * probability < self._price:
            return None, False
        return self._hang(above, token, probability, proposer), True

    def _is_full(self, node: TreeNode) -> bool:
        no_credit = self._tree.num_outstanding >= self._credit
        return no_credit or self._room_below(node) < 1

    def _hang(self, above: TreeNode, token: int, probability: float, proposer: str) -> TreeNode:
        node_id = self._tree.last_id + 1
        self._guesses[node_id] = _Guess(
            self._from_root(above) * probability, self._clock(), proposer
        )
        self._tree.extend([DraftNode(node_id, token, _name(above))])
        self._unsent.append(node_id)
        return above.children[token]

    def _record(self, entry: Committed, commit: Commit, now: float) -> TokenRecord:
        offset = entry.position - commit.start
        origin = _origin(commit, offset)
        guess = self._guesses.get(entry.node_id) if entry.node_id is not None else None
        return TokenRecord(
            position=entry.position,
            token=entry.token,
            text="",
            origin=origin,
            committed_at_s=now,
            drafted_at_s=guess.drafted_at_s if guess else None,
            proposer=guess.proposer if guess and origin is TokenOrigin.DRAFTED else None,
            pass_index=self._num_passes,
            num_rows=commit.num_rows,
        )

    def _forget_the_dead(self) -> None:
        frontier = self._tree.frontier
        alive = {node.ids[0] for node in self._tree.nodes()} | set(frontier.ids)
        self._guesses = {i: guess for i, guess in self._guesses.items() if i in alive}
        self._silent &= {frontier, *self._tree.nodes()}


def _origin(commit: Commit, offset: int) -> TokenOrigin:
    if offset < commit.num_accepted:
        return TokenOrigin.DRAFTED
    return TokenOrigin.CORRECTED if commit.is_correction else TokenOrigin.HEDGED


def _name(parent: TreeNode) -> AtNode | AtPosition:
    """How a message names a parent: the frontier by its position, which both sides know."""
    return AtPosition(parent.position) if parent.parent is None else AtNode(parent.ids[0])


def _as_sent(node: TreeNode) -> DraftNode:
    assert node.parent is not None  # a live node hangs from something
    return DraftNode(node.ids[0], node.token, _name(node.parent))
