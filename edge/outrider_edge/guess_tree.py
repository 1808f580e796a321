"""The edge's half of a speculation tree: what was sent, what else was guessed, and what came of it.

Around the tree that both sides share it keeps, for each live node, how it was guessed, and those
guesses below it that were not worth sending. Knows nothing of time, credit or price.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from outrider_common.acceptance import SparseDistribution
from outrider_common.tree import AtNode, AtPosition, Committed, DraftNode, SpeculationTree, TreeNode
from outrider_edge.guesses import Candidate, Guess, merge

Place = TreeNode | int | None
"""Where a guess hangs: a live node or the frontier, an overtaken position, or nowhere any more."""


@dataclass(frozen=True, slots=True)
class Hung:
    """How a node came to be, until it is committed or pruned.

    Attributes:
        guess: what it was.
        from_root: the product of chances since the last committed token that no draft carried.
        drafted_at_s: when it was hung.
        sent_at_s: when it was taken to be sent; None while it waits.
    """

    guess: Guess
    from_root: float
    drafted_at_s: float
    sent_at_s: float | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """A guess whose parent was committed, and whether it was, too."""

    guess: Guess
    is_committed: bool


class GuessTree:
    """Live nodes, and the reserve: guesses below them that are not sent.

    Args:
        prefix: the committed tokens, at least one.
    """

    def __init__(self, prefix: Sequence[int]) -> None:
        self._tree = SpeculationTree(prefix)
        self._hung: dict[int, Hung] = {}  # by first id
        self._reserve: dict[TreeNode, list[Candidate]] = {}
        self._asked: set[TreeNode] = set()
        self._unsent: list[int] = []  # ids

    @property
    def shared(self) -> SpeculationTree:
        """The tree that both sides hold; read it, never change it."""
        return self._tree

    def hung(self, node_id: int | None) -> Hung | None:
        """How the live or just committed node with this first id came to be."""
        return None if node_id is None else self._hung.get(node_id)

    def probability(self, node: TreeNode) -> float:
        """The chance that a node is committed, by the chances of the guesses on its path."""
        from_root = self._from_root(self._tree.frontier)
        return self._from_root(node) / from_root if from_root > 0 else 0.0

    # --- where to draft -------------------------------------------------------------------------

    def open_nodes(self) -> Iterator[TreeNode]:
        """The frontier and the live nodes of which no proposer was asked yet."""
        frontier = self._tree.frontier
        if frontier not in self._asked:
            yield frontier
        yield from (node for node in self._tree.nodes() if node not in self._asked)

    def reserve(self) -> Iterator[tuple[TreeNode, Candidate]]:
        """The guesses that could be sent next, each with the node that it would hang from."""
        for node, waiting in self._reserve.items():
            for candidate in waiting:
                yield node, candidate

    def find(self, node_id: int | None, position: int) -> Place:
        """What a node, or a frontier that no node carried, has become.

        Args:
            node_id: one of its ids; None for such a frontier.
            position: where it stands.
        """
        if node_id is not None:
            live = self._tree.find(node_id)
            committed = self._tree.committed_position(node_id)
            return live if live is not None or committed is None else self._at(committed)
        return self._at(position)

    def offer(self, place: Place, guesses: Sequence[Candidate]) -> list[Fate]:
        """Put the guesses that a proposer made of a place into the reserve, as far as it is alive.

        Guesses that commits have confirmed meanwhile are skipped, those they have refuted dropped.

        Returns:
            What has become of those.
        """
        if isinstance(place, int):
            return self._offer_late(place, guesses)
        if place is None:
            return []
        self._asked.add(place)
        fates: list[Fate] = []
        for candidate in guesses:
            child = place.children.get(candidate.guess.token)
            if child is None:
                merge(self._reserve.setdefault(place, []), candidate)
            else:
                fates += self.offer(child, candidate.below) if candidate.below else []
        return fates

    # --- what is sent ---------------------------------------------------------------------------

    def hang(self, parent: TreeNode, candidate: Candidate, now_s: float) -> TreeNode | None:
        """Make a guess of the reserve a node.

        None, and the guess is gone, if its siblings keep it out, or if it is a draw and an earlier
        one still waits: whoever sees only the later one would take it for the first.
        """
        guess = candidate.guess
        waiting = self._reserve[parent]
        place = waiting.index(candidate)
        is_early = any(_is_draw_of(guess.source, earlier) for earlier in waiting[:place])
        del waiting[place]
        if not waiting:
            del self._reserve[parent]
        if is_early or not _may_join(parent, guess.source):
            return None
        node_id = self._tree.last_id + 1
        self._hung[node_id] = Hung(guess, self._from_root(parent) * guess.chance, now_s)
        draft = None if parent.children else guess.source
        self._tree.extend([DraftNode(node_id, guess.token, _name(parent), draft)])
        self._unsent.append(node_id)
        node = parent.children[guess.token]
        if candidate.below:
            self._reserve[node] = candidate.below
            self._asked.add(node)
        return node

    @property
    def num_unsent(self) -> int:
        """How many live nodes wait to be sent."""
        self._unsent = [i for i in self._unsent if self._tree.find(i) is not None]
        return len(self._unsent)

    def take_unsent(self, now_s: float) -> list[DraftNode]:
        """Nodes that were hung since the last call and are still alive; ids in order."""
        alive = [node for node in map(self._tree.find, self._unsent) if node is not None]
        self._unsent = []
        for node in alive:
            self._hung[node.ids[0]] = replace(self._hung[node.ids[0]], sent_at_s=now_s)
        return [_as_sent(node) for node in alive]

    # --- what is committed ----------------------------------------------------------------------

    def commit(self, start: int, tokens: Sequence[int]) -> tuple[list[Committed], list[Fate]]:
        """Make tokens final. How the committed nodes were hung is known until `forget_the_dead`.

        A guess of the reserve that is committed without having been sent leaves those below it to
        the new frontier.

        Returns:
            What was new, and the fates of all guesses whose parents these tokens confirm.

        Raises:
            ProtocolViolationError: the commit does not follow from the text; nothing is changed.
        """
        new = tokens[self._tree.num_committed - start :]
        fates, left_over = self._fates(new)
        committed = self._tree.commit(start, tokens)
        if left_over:
            self._reserve[self._tree.frontier] = left_over
            self._asked.add(self._tree.frontier)
        return committed, fates

    def forget_the_dead(self) -> None:
        """Keep only what is known of the frontier and of live nodes."""
        frontier = self._tree.frontier
        alive = {frontier, *self._tree.nodes()}
        ids = {node.ids[0] for node in alive if node.ids}
        self._hung = {i: hung for i, hung in self._hung.items() if i in ids}
        self._reserve = {node: c for node, c in self._reserve.items() if node in alive}
        self._asked &= alive

    # --- inside ---------------------------------------------------------------------------------

    def _from_root(self, node: TreeNode) -> float:
        return self._hung[node.ids[0]].from_root if node.ids else 1.0

    def _at(self, position: int) -> TreeNode | int:
        frontier = self._tree.frontier
        return frontier if position == frontier.position else position

    def _offer_late(self, position: int, guesses: Sequence[Candidate]) -> list[Fate]:
        token = self._tree.tokens[position + 1]
        fates = [Fate(c.guess, c.guess.token == token) for c in guesses if not c.guess.source]
        for candidate in guesses:
            if candidate.guess.token == token and candidate.below:
                fates += self.offer(self._at(position + 1), candidate.below)
        return fates

    def _fates(self, tokens: Sequence[int]) -> tuple[list[Fate], list[Candidate]]:
        """What tokens decide, and what of the reserve hangs from the last of them.

        What hangs from a refuted guess is never judged, and says nothing. A draw that was not sent
        says nothing either: it counts only beside the draws before it.
        """
        fates: list[Fate] = []
        node: TreeNode | None = self._tree.frontier
        waiting = self._reserve.get(self._tree.frontier, [])
        for token in tokens:
            children = node.children.values() if node is not None else ()
            fates += [Fate(self._hung[c.ids[0]].guess, c.token == token) for c in children]
            fates += [Fate(c.guess, c.guess.token == token) for c in waiting if not c.guess.source]
            node = node.children.get(token) if node is not None else None
            chosen = [c.below for c in waiting if c.guess.token == token]
            below = chosen[0] if chosen else []
            waiting = below if node is None else self._reserve.get(node, [])
        return fates, waiting if node is None else []


def _name(parent: TreeNode) -> AtNode | AtPosition:
    """How a message names a parent: the frontier by its position, which both sides know."""
    return AtPosition(parent.position) if parent.parent is None else AtNode(parent.ids[0])


def _may_join(above: TreeNode, source: SparseDistribution | None) -> bool:
    """Whether a guess may become a child: the verifier takes any sibling of a draw for a draw."""
    return above.draft is None or above.draft is source


def _is_draw_of(source: SparseDistribution | None, candidate: Candidate) -> bool:
    return source is not None and candidate.guess.source is source


def _as_sent(node: TreeNode) -> DraftNode:
    assert node.parent is not None  # a live node hangs from something
    is_first = next(iter(node.parent.children.values())) is node
    draft = node.parent.draft if is_first else None
    return DraftNode(node.ids[0], node.token, _name(node.parent), draft)
