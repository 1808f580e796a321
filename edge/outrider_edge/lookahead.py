"""What the edge expects of its tree: how likely each node is committed, and which come in time.

Knows the guesses and the pace of things; nothing of credit, price or messages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from outrider_common.tree import TreeNode
from outrider_edge.arrival import Forecast
from outrider_edge.expansion import Outlook
from outrider_edge.guess_tree import GuessTree
from outrider_edge.guesses import Candidate


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where drafting could go on.

    Attributes:
        node: an open node, or the one that the guess hangs from.
        candidate: a guess of the reserve; None for the node itself.
        outlook: what is expected of it.
    """

    node: TreeNode
    candidate: Candidate | None
    outlook: Outlook

    @property
    def position(self) -> int:
        """Where its token stands."""
        return self.node.position + (self.candidate is not None)


class Lookahead:
    """The outlooks of the frontier and of all live nodes, as of one commit.

    Args:
        guesses: the tree.
        forecast: of the verifier's passes, as of that commit.
    """

    def __init__(self, guesses: GuessTree, forecast: Forecast) -> None:
        self._guesses = guesses
        self._forecast = forecast
        frontier = guesses.shared.frontier
        self._outlooks = {frontier: Outlook(1.0, forecast.first_start_s)}
        for node in guesses.shared.nodes():
            self.add(node)

    def add(self, node: TreeNode) -> None:
        """Foresee a node that was hung since."""
        hung = self._guesses.hung(node.ids[0])
        assert hung is not None  # it is alive
        assert node.parent is not None
        start_s = self._outlooks[node.parent].next_start_s
        sent_at_s = self._forecast.now_s if hung.sent_at_s is None else hung.sent_at_s
        in_time = self._forecast.chance(start_s, self._forecast.arrival_s(sent_at_s))
        next_start_s = self._forecast.next_start_s(start_s, in_time)
        self._outlooks[node] = Outlook(self._guesses.probability(node), next_start_s)

    def open_probabilities(self) -> list[float]:
        """How likely each of the open nodes is committed."""
        return [self._outlooks[node].probability for node in self._guesses.open_nodes()]

    def leaves(self, forecast: Forecast, deepest: int) -> Iterator[Leaf]:
        """Where drafting could go on above the position `deepest`, as of a forecast of now."""
        for node in self._guesses.open_nodes():
            if node.position < deepest:
                yield Leaf(node, None, self._outlooks[node])
        for node, candidate in self._guesses.reserve():
            if node.position + 1 < deepest and not candidate.below:
                yield Leaf(node, candidate, self._outlook_if_sent(node, candidate, forecast))

    def worth(self, node: TreeNode, candidate: Candidate, now_s: float) -> float:
        """The chance that a guess below a node is committed and that sending it now is of use.

        The first below a node is a way to those that follow, even where it comes too late itself.
        """
        above = self._outlooks[node]
        worth = above.probability * candidate.guess.chance
        if node.children:
            worth *= self._forecast.chance(above.next_start_s, self._forecast.arrival_s(now_s))
        return worth

    def _outlook_if_sent(self, node: TreeNode, candidate: Candidate, forecast: Forecast) -> Outlook:
        above = self._outlooks[node]
        in_time = forecast.chance(above.next_start_s, forecast.arrival_s(forecast.now_s))
        next_start_s = forecast.next_start_s(above.next_start_s, in_time)
        return Outlook(above.probability * candidate.guess.chance, next_start_s)
