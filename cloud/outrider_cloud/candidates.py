"""What a pass may check for one session: the edge's draft nodes, and the verifier's own guesses.

The own ones are nodes that hang from the edge's tree without being part of it: they live for one
pass. Pure. Knows nothing of rows, passes or how chances are learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from outrider_cloud.own_guesses import Guesses, OwnGuess
from outrider_common.tree import TreeNode


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that could be checked.

    Attributes:
        node: the edge's, or one of our own: that has no id.
        value: the estimated chance that it is committed.
    """

    node: TreeNode
    value: float


def drafts_by_worth(
    frontier: TreeNode, nodes: Sequence[TreeNode], chances: Sequence[float]
) -> dict[TreeNode, float]:
    """What the edge's nodes are worth, the most valuable first, parents before their children.

    Args:
        frontier: of the session's tree.
        nodes: the useful ones, parents before their children.
        chances: by rank among siblings that a node is right, if its parent is; falling. Further
            ranks are as good as the last.
    """
    worth = {frontier: 1.0}
    for parent in (frontier, *nodes):
        for rank, child in enumerate(parent.children.values()):
            worth[child] = worth[parent] * chances[min(rank, len(chances) - 1)]
    found = sorted(nodes, key=worth.__getitem__, reverse=True)  # stable: of equals parents first
    return {node: worth[node] for node in found}


def with_own_guesses(
    frontier: TreeNode,
    drafts: Mapping[TreeNode, float],
    guesses: Guesses,
    *,
    most: int,
    end: int,
) -> list[Candidate]:
    """Draft nodes and own guesses, the most valuable first, parents before their children.

    Guesses are made for what follows the frontier, and for what follows the edge's first guesses.
    A guess that a draft node carries already makes that one worth more; it does not become a second
    one.

    Args:
        frontier: of the session's tree.
        drafts: the values of the useful nodes, parents before their children, no larger than those
            of their parents.
        guesses: of the session's text.
        most: own guesses at most.
        end: the position from which on a node saves no pass.
    """
    hanging = _Hanging(dict(drafts), end)
    leaf = _main_leaf(frontier, hanging.values)
    depth = leaf.position - frontier.position
    passed = hanging.follow(frontier, 1.0, guesses.after((), depth + most))
    if leaf is not frontier and leaf not in passed:
        path = tuple(node.token for node in leaf.path())
        hanging.follow(leaf, hanging.values[leaf], guesses.after(path, most))
    return hanging.candidates(most)


class _Hanging:
    """Nodes and what they are worth, while own ones are hung."""

    def __init__(self, values: dict[TreeNode, float], end: int) -> None:
        self.values = values
        self._own: list[Candidate] = []
        self._end = end

    def follow(self, node: TreeNode, value: float, chain: Sequence[OwnGuess]) -> set[TreeNode]:
        """Walk along a chain of guesses, as far as they may be checked; hang those that are new.

        Returns:
            The draft nodes that it has passed.
        """
        passed: set[TreeNode] = set()
        for guess in chain:
            value *= guess.chance
            child = node.children.get(guess.token)
            if child is None:
                if node.position + 1 >= self._end:
                    break
                child = TreeNode(guess.token, node.position + 1, parent=node)
                self._own.append(Candidate(child, value))
            elif child in self.values:
                self.values[child] = max(self.values[child], value)
                passed.add(child)
            else:
                break
            node = child
        return passed

    def candidates(self, most_own: int) -> list[Candidate]:
        """All drafts, the best own ones; sorts are stable: of equal values the parent is first."""
        own = sorted(self._own, key=lambda one: -one.value)[:most_own]
        drafts = [Candidate(node, value) for node, value in self.values.items()]
        return sorted((*drafts, *own), key=lambda one: -one.value)


def _main_leaf(frontier: TreeNode, useful: dict[TreeNode, float]) -> TreeNode:
    """Where the edge's first guesses end: the first child of each node is its best."""
    node = frontier
    while child := next((child for child in node.children.values() if child in useful), None):
        node = child
    return node
