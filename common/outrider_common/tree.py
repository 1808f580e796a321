"""The speculation tree: committed tokens, and draft nodes that hang from the last of them.

The edge and the verifier each hold one per session and apply the same two events to it, `extend`
and `commit`, in whatever order messages arrive. A node is alive exactly if its path agrees with
the committed text as far as both go. Knows nothing of models, messages or time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from outrider_common.acceptance import SparseDistribution
from outrider_common.errors import ProtocolViolationError

DEFAULT_COMMITTED_ID_WINDOW = 4096


@dataclass(frozen=True, slots=True)
class AtPosition:
    """A parent given as a committed position."""

    position: int


@dataclass(frozen=True, slots=True)
class AtNode:
    """A parent given as another draft node."""

    node_id: int


Parent = AtPosition | AtNode


@dataclass(frozen=True, slots=True)
class DraftNode:
    """A guess as it travels.

    Attributes:
        node_id: 1, 2, 3, ... per session.
        token: its token id.
        parent: what it follows.
        draft: from what it and its siblings were drawn, in the order of their ids; given with the
            first of them, and only where they were drawn at all.
    """

    node_id: int
    token: int
    parent: Parent
    draft: SparseDistribution | None = None


@dataclass(slots=True, eq=False)
class TreeNode:
    """A live node, or the frontier itself, which is the root.

    Attributes:
        token: its token id.
        position: where its token stands if it is committed; one more than its parent's.
        ids: the ids that name it, the first one first; empty for a frontier that no node carried.
        parent: what it follows; None for the frontier.
        children: by token, in the order in which they came.
        draft: from what they were drawn; None where they were chosen in another way.
    """

    token: int
    position: int
    ids: list[int] = field(default_factory=list)
    parent: "TreeNode | None" = None
    children: dict[int, "TreeNode"] = field(default_factory=dict)
    draft: SparseDistribution | None = None

    def path(self) -> list["TreeNode"]:
        """The nodes from the frontier's child down to this one; empty for the frontier."""
        nodes: list[TreeNode] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes

    def subtree(self) -> Iterator["TreeNode"]:
        """This node and everything below it, parents before their children."""
        pending = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(node.children.values())


class Committed(NamedTuple):
    """What became of one committed token.

    Attributes:
        token: the token id.
        position: where it stands.
        node_id: the id of the draft node that carried it, or None.
    """

    token: int
    position: int
    node_id: int | None


class SpeculationTree:
    """The committed tokens of one session and its live draft nodes.

    Args:
        committed: the prefix, at least one token.
        committed_id_window: how many ids that name committed positions are remembered, the
            latest ones. A node whose parent's id is forgotten is dropped.
    """

    def __init__(
        self,
        committed: Iterable[int],
        *,
        committed_id_window: int = DEFAULT_COMMITTED_ID_WINDOW,
    ) -> None:
        self._tokens = list(committed)
        if not self._tokens:
            raise ValueError("a speculation tree needs at least one committed token")
        self._window = committed_id_window
        self._frontier = TreeNode(self._tokens[-1], len(self._tokens) - 1)
        self._live: dict[int, TreeNode] = {}
        self._committed_ids: dict[int, int] = {}  # id -> position, the oldest entry first
        self._last_id = 0

    @property
    def tokens(self) -> Sequence[int]:
        """All committed tokens. The tree's own list: read it, never change it."""
        return self._tokens

    @property
    def num_committed(self) -> int:
        """How many tokens are committed."""
        return len(self._tokens)

    @property
    def frontier(self) -> TreeNode:
        """The last committed token, as the root from which the live nodes hang."""
        return self._frontier

    @property
    def num_outstanding(self) -> int:
        """How many ids name live nodes."""
        return len(self._live)

    @property
    def last_id(self) -> int:
        """The highest id seen so far; 0 at first."""
        return self._last_id

    def nodes(self) -> Iterator[TreeNode]:
        """The live nodes in the order of their first ids, so parents before their children."""
        return iter(dict.fromkeys(self._live.values()))

    def find(self, node_id: int) -> TreeNode | None:
        """The live node with this id, if there is one."""
        return self._live.get(node_id)

    def committed_position(self, node_id: int) -> int | None:
        """The committed position that this id names, if it names one and is remembered."""
        return self._committed_ids.get(node_id)

    def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Add draft nodes. Useless ones (duplicates, children of pruned nodes) are dropped.

        Raises:
            ProtocolViolationError: a node that no correct edge sends; then none is added.
        """
        self._refuse_impossible(nodes)
        for node in nodes:
            if node.node_id > self._last_id:
                self._last_id = node.node_id
                self._add(node)

    def commit(self, start: int, tokens: Sequence[int]) -> list[Committed]:
        """Make tokens final, the first of them at position `start`.

        Returns:
            One entry for each token that was not committed before.

        Raises:
            ProtocolViolationError: the tokens leave a gap or contradict the committed text; then
                nothing is changed.
        """
        if not 0 <= start <= self.num_committed:
            raise ProtocolViolationError(
                f"A commit starts at position {start}, but only {self.num_committed} tokens are "
                "committed; commits must follow one another without a gap."
            )
        overlap = self._tokens[start : start + len(tokens)]
        if overlap != list(tokens[: len(overlap)]):
            raise ProtocolViolationError(
                f"A commit at position {start} contradicts tokens that are final already; the "
                "two sides have not the same text and the session must be opened anew."
            )
        first = start + len(overlap)
        new = tokens[len(overlap) :]
        carriers = map(self._commit_one, new)
        return [Committed(*one) for one in zip(new, count(first), carriers, strict=False)]

    def append(self, tokens: Sequence[int]) -> None:
        """Make tokens final that follow the committed ones: a `commit` by whoever decides them."""
        for token in tokens:
            self._commit_one(token)

    def _refuse_impossible(self, nodes: Sequence[DraftNode]) -> None:
        for node in nodes:
            match node.parent:
                case AtNode(parent_id) if not 1 <= parent_id < node.node_id:
                    raise ProtocolViolationError(
                        f"Draft node {node.node_id} names node {parent_id} as its parent, which "
                        "was never sent; a parent must be an earlier node or a committed position."
                    )
                case AtPosition(position) if not 0 <= position < self.num_committed:
                    raise ProtocolViolationError(
                        f"Draft node {node.node_id} names position {position} as its parent, but "
                        f"only positions 0 to {self.num_committed - 1} are committed."
                    )
                case _:
                    pass

    def _add(self, node: DraftNode) -> None:
        parent = self._resolve(node.parent)
        if isinstance(parent, TreeNode):
            self._hang(node, parent)
        elif parent is not None and self._tokens[parent + 1] == node.token:
            self._name_position(node.node_id, parent + 1)  # a latecomer that was right

    def _resolve(self, parent: Parent) -> TreeNode | int | None:
        """A live node, an overtaken committed position, or None for what is gone."""
        if isinstance(parent, AtNode):
            live = self._live.get(parent.node_id)
            if live is not None:
                return live
            position = self._committed_ids.get(parent.node_id)
        else:
            position = parent.position
        return self._frontier if position == self._frontier.position else position

    def _hang(self, node: DraftNode, parent: TreeNode) -> None:
        _agree_on_draft(node, parent)
        child = parent.children.get(node.token)
        if child is None:
            child = TreeNode(node.token, parent.position + 1, parent=parent)
            parent.children[node.token] = child
        child.ids.append(node.node_id)
        self._live[node.node_id] = child

    def _commit_one(self, token: int) -> int | None:
        """The next token is final; the first id of the node that carried it."""
        children = self._frontier.children
        carrier = children.pop(token, None)
        for sibling in children.values():
            self._prune(sibling)
        position = len(self._tokens)
        self._tokens.append(token)
        if carrier is None:
            self._frontier = TreeNode(token, position)
            return None
        self._frontier = carrier
        carrier.parent = None
        for node_id in carrier.ids:
            del self._live[node_id]
            self._name_position(node_id, position)
        return carrier.ids[0]

    def _prune(self, root: TreeNode) -> None:
        for node in root.subtree():
            for node_id in node.ids:
                del self._live[node_id]

    def _name_position(self, node_id: int, position: int) -> None:
        self._committed_ids[node_id] = position
        if len(self._committed_ids) > self._window:
            del self._committed_ids[next(iter(self._committed_ids))]


def _agree_on_draft(node: DraftNode, parent: TreeNode) -> None:
    """Take what a parent's children are drawn from with the first of them.

    A distribution that comes later can only agree. If it does not, nobody knows any more from what
    the children were drawn, and they are judged as guesses that were not drawn at all: that costs
    acceptance, but is right whatever they are.
    """
    if not parent.children:
        parent.draft = node.draft
    elif node.draft is not None and node.draft != parent.draft:
        parent.draft = None
