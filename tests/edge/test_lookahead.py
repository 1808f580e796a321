"""What the edge expects of its tree: which nodes are committed, and which come in time."""

import math

import pytest
from fake_guesses import guessed

from outrider_common.tree import TreeNode
from outrider_edge.arrival import Forecast, Pace
from outrider_edge.guess_tree import GuessTree
from outrider_edge.guesses import Candidate
from outrider_edge.lookahead import Lookahead

IN_TIME = Forecast(pace=None, committed_at_s=None, now_s=0.0)
PACE = Pace(interval_s=0.1, spread_s=0.01, queue_s=0.0, round_trip_s=0.04, draft_s=0.01)


def just_committed(now_s: float = 0.0) -> Forecast:
    """A pass ended at 0; the next begins at once."""
    return Forecast(PACE, committed_at_s=0.0, now_s=now_s)


def a_tree(*guesses: Candidate) -> GuessTree:
    tree = GuessTree((1, 2))
    tree.offer(tree.shared.frontier, guesses)
    return tree


def hang(tree: GuessTree, token: int, now_s: float = 0.0) -> TreeNode:
    ((node, candidate),) = [(n, c) for n, c in tree.reserve() if c.guess.token == token]
    child = tree.hang(node, candidate, now_s)
    assert child is not None
    return child


def leaves(ahead: Lookahead, deepest: int = 99) -> dict[int, float]:
    """The probability of each leaf, by its token."""
    found = ahead.leaves(IN_TIME, deepest)
    return {
        (leaf.candidate.guess.token if leaf.candidate else leaf.node.token): (
            leaf.outlook.probability
        )
        for leaf in found
    }


def test_the_leaves_are_open_nodes_and_guesses_of_the_reserve_that_end_a_draft() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3), guessed(30, 0.1, guessed(31, 0.9)))
    hang(tree, 10)
    assert leaves(Lookahead(tree, IN_TIME)) == pytest.approx({10: 0.6, 20: 0.3})


def test_at_first_the_frontier_is_the_only_leaf() -> None:
    assert leaves(Lookahead(GuessTree((1, 2)), IN_TIME)) == {2: 1.0}


def test_no_leaf_is_so_deep_that_nothing_may_follow_it() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)), guessed(20, 0.3))
    hang(tree, 10)
    hang(tree, 11)
    ahead = Lookahead(tree, IN_TIME)
    assert set(leaves(ahead, deepest=4)) == {11, 20}
    assert set(leaves(ahead, deepest=3)) == {20}
    assert set(leaves(ahead, deepest=2)) == set()


def test_a_node_that_is_hung_later_is_foreseen_when_it_is_added() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    ahead = Lookahead(tree, IN_TIME)
    for token in (10, 11):
        ahead.add(hang(tree, token))
    assert ahead.open_probabilities() == [pytest.approx(0.3)]
    later = Lookahead(tree, IN_TIME)
    assert later.open_probabilities() == ahead.open_probabilities()


def test_a_guess_is_worth_the_chance_of_its_path() -> None:
    tree = a_tree(guessed(10, 0.6))
    node = hang(tree, 10)
    ahead = Lookahead(tree, IN_TIME)
    assert ahead.worth(node, guessed(11, 0.5), now_s=0.0) == pytest.approx(0.3)


def test_the_first_guess_below_a_node_is_worth_sending_late_and_its_siblings_are_not() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3))
    frontier = tree.shared.frontier
    assert Lookahead(tree, just_committed()).worth(frontier, guessed(10, 0.6), 1.0) == 0.6
    hang(tree, 10)
    ahead = Lookahead(tree, just_committed())
    assert ahead.worth(frontier, guessed(20, 0.3), now_s=1.0) < 1e-6
    assert ahead.worth(frontier, guessed(20, 0.3), now_s=-1.0) == pytest.approx(0.3)


def test_below_a_node_that_is_too_late_the_pass_after_the_next_decides() -> None:
    tree = a_tree(guessed(10, 0.6))
    node = hang(tree, 10, now_s=0.0)  # arrives at 0.04, the pass began at 0
    (leaf,) = Lookahead(tree, just_committed()).leaves(just_committed(), 99)
    assert leaf.node is node
    assert leaf.outlook.next_start_s == pytest.approx(PACE.interval_s, abs=1e-4)


def test_below_a_node_that_is_in_time_the_same_pass_decides() -> None:
    tree = a_tree(guessed(10, 0.6))
    hang(tree, 10, now_s=-0.3)
    tree.take_unsent(-0.2)
    (leaf,) = Lookahead(tree, just_committed()).leaves(just_committed(), 99)
    assert leaf.outlook.next_start_s == pytest.approx(0.0, abs=1e-4)


def test_a_node_that_was_not_sent_yet_arrives_as_if_it_were_sent_now() -> None:
    tree = a_tree(guessed(10, 0.6))
    hang(tree, 10, now_s=-0.3)
    (leaf,) = Lookahead(tree, just_committed()).leaves(just_committed(), 99)
    assert leaf.outlook.next_start_s == pytest.approx(PACE.interval_s, abs=1e-4)


def test_what_would_follow_a_guess_of_the_reserve_depends_on_when_it_is_sent() -> None:
    tree = a_tree(guessed(10, 0.6))
    ahead = Lookahead(tree, just_committed())

    def next_start_s(now_s: float) -> float:
        (leaf,) = ahead.leaves(just_committed(now_s), 99)
        assert leaf.candidate is not None
        assert leaf.position == 2
        return leaf.outlook.next_start_s

    assert next_start_s(-0.2) == pytest.approx(0.0, abs=1e-4)
    assert next_start_s(0.0) == pytest.approx(PACE.interval_s, abs=1e-4)


def test_before_the_pace_is_known_everything_is_in_time() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3))
    hang(tree, 10, now_s=100.0)
    ahead = Lookahead(tree, IN_TIME)
    assert all(math.isinf(leaf.outlook.next_start_s) for leaf in ahead.leaves(IN_TIME, 99))
    assert ahead.worth(tree.shared.frontier, guessed(20, 0.3), now_s=100.0) == 0.3
