"""The guess tree in any order of offers, sending and commits: what must hold at every moment."""

import math

from fake_guesses import guessed
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outrider_edge.guess_tree import GuessTree
from outrider_edge.guesses import Candidate, merge

TOKENS = st.integers(0, 2)
CHANCES = st.sampled_from([0.1, 0.5, 0.9])


@st.composite
def guesses(draw: st.DrawFn, depth: int = 3) -> list[Candidate]:
    """A small tree of guesses, siblings with different tokens."""
    found: list[Candidate] = []
    for token in draw(st.lists(TOKENS, max_size=3, unique=True)):
        below = draw(guesses(depth - 1)) if depth > 1 else []
        merge(found, guessed(token, draw(CHANCES), *below))
    return found


class GuessTreeHistory(RuleBasedStateMachine):
    """Whatever an edge may do with its guesses."""

    def __init__(self) -> None:
        super().__init__()
        self.tree = GuessTree((0,))
        self.sent: list[int] = []
        self.num_asked = 0
        self.asked: list[tuple[int | None, int]] = []

    @rule(data=st.data())
    @precondition(lambda self: list(self.tree.open_nodes()))
    def ask(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(list(self.tree.open_nodes())))
        self.asked.append((node.ids[0] if node.ids else None, node.position))

    @rule(data=st.data(), found=guesses())
    @precondition(lambda self: self.asked)
    def answer(self, data: st.DataObject, found: list[Candidate]) -> None:
        """The proposer comes back, perhaps after commits."""
        index = data.draw(st.integers(0, len(self.asked) - 1))
        self.tree.offer(self.tree.find(*self.asked.pop(index)), found)

    @rule(data=st.data())
    @precondition(lambda self: list(self.tree.reserve()))
    def hang(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(list(self.tree.reserve())) - 1))
        node, candidate = list(self.tree.reserve())[index]
        child = self.tree.hang(node, candidate, 0.0)
        assert child is not None
        assert child is node.children[candidate.guess.token]

    @rule()
    def send(self) -> None:
        self.sent += [node.node_id for node in self.tree.take_unsent(0.0)]

    @rule(tokens=st.lists(TOKENS, min_size=1, max_size=4))
    def commit(self, tokens: list[int]) -> None:
        parents = self.tree.shared.num_committed
        _, fates = self.tree.commit(parents, tokens)
        self.tree.forget_the_dead()
        assert sum(fate.is_committed for fate in fates) <= len(tokens)

    @invariant()
    def the_reserve_hangs_from_what_is_alive_and_guesses_nothing_twice(self) -> None:
        alive = {self.tree.shared.frontier, *self.tree.shared.nodes()}
        places = [(node, c.guess.token) for node, c in self.tree.reserve()]
        assert len(places) == len(set(places))
        for node, token in places:
            assert node in alive
            assert token not in node.children

    @invariant()
    def what_is_open_has_no_guesses_yet(self) -> None:
        waiting = {node for node, _ in self.tree.reserve()}
        for node in self.tree.open_nodes():
            assert node not in waiting
            assert not node.children

    @invariant()
    def every_live_node_is_as_likely_as_the_guesses_on_its_path(self) -> None:
        for node in self.tree.shared.nodes():
            on_path = [self.tree.hung(above.ids[0]) for above in node.path()]
            chances = [hung.guess.chance for hung in on_path if hung]
            assert len(chances) == len(on_path)
            assert math.isclose(self.tree.probability(node), math.prod(chances))

    @invariant()
    def ids_rise_and_none_is_sent_twice(self) -> None:
        assert self.sent == sorted(set(self.sent))
        for node in self.tree.shared.nodes():
            assert node.parent is not None
            assert node.parent.ids[:1] < node.ids[:1]
            assert len(node.ids) == 1


GuessTreeHistory.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None
)
TestGuessTreeHistories = GuessTreeHistory.TestCase
