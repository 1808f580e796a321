"""The edge's half of a tree: the reserve, what is sent of it, and what becomes of all guesses."""

import pytest
from fake_guesses import guessed

from outrider_common.acceptance import SparseDistribution
from outrider_common.errors import ProtocolViolationError
from outrider_common.tree import AtNode, AtPosition, DraftNode, TreeNode
from outrider_edge.guess_tree import Fate, GuessTree
from outrider_edge.guesses import Candidate

Q = SparseDistribution((10, 11, 12), (5, 4, 1))


def a_tree(*guesses: Candidate) -> GuessTree:
    """A tree behind two committed tokens with these guesses in its reserve."""
    tree = GuessTree((1, 2))
    tree.offer(tree.shared.frontier, guesses)
    return tree


def hung(tree: GuessTree, *tokens: int, now_s: float = 0.0) -> list[TreeNode]:
    """Hang guesses of the reserve, in this order."""
    return [_hung(tree, token, now_s) for token in tokens]


def _hung(tree: GuessTree, token: int, now_s: float) -> TreeNode:
    (place,) = [(n, c) for n, c in tree.reserve() if c.guess.token == token]
    node = tree.hang(*place, now_s)
    assert node is not None
    return node


def waiting(tree: GuessTree) -> list[tuple[int, int]]:
    """Where each guess of the reserve would stand, and its token."""
    return [(node.position + 1, c.guess.token) for node, c in tree.reserve()]


def told(fates: list[Fate]) -> list[tuple[int, bool]]:
    return [(fate.guess.token, fate.is_committed) for fate in fates]


# --- the reserve and what is sent -----------------------------------------------------------------


def test_guesses_wait_in_the_reserve_until_they_are_hung() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3))
    assert waiting(tree) == [(2, 10), (2, 20)]
    assert tree.shared.num_outstanding == 0
    hung(tree, 20)
    assert waiting(tree) == [(2, 10)]
    assert tree.take_unsent(0.0) == [DraftNode(1, 20, AtPosition(1))]
    assert tree.num_unsent == 0


def test_what_hangs_from_a_guess_comes_to_the_reserve_when_it_is_hung() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    assert waiting(tree) == [(2, 10)]
    hung(tree, 10, 11)
    assert waiting(tree) == []
    assert tree.take_unsent(0.0) == [DraftNode(1, 10, AtPosition(1)), DraftNode(2, 11, AtNode(1))]


def test_a_place_that_was_asked_is_open_no_more() -> None:
    tree = GuessTree((1, 2))
    assert list(tree.open_nodes()) == [tree.shared.frontier]
    tree.offer(tree.shared.frontier, [])
    assert list(tree.open_nodes()) == []


def test_a_node_is_open_unless_guesses_came_with_it() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)), guessed(20, 0.3))
    _, lonely = hung(tree, 10, 20)
    assert list(tree.open_nodes()) == [lonely]


def test_a_node_is_as_likely_as_its_path() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    first, second = hung(tree, 10, 11, now_s=7.0)
    assert tree.probability(tree.shared.frontier) == 1
    assert tree.probability(first) == pytest.approx(0.6)
    assert tree.probability(second) == pytest.approx(0.3)
    kept = tree.hung(second.ids[0])
    assert kept is not None
    assert kept.drafted_at_s == 7.0
    assert kept.guess.token == 11


def test_what_is_committed_no_longer_lowers_the_probability_below_it() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    _, second = hung(tree, 10, 11)
    tree.commit(2, (10,))
    tree.forget_the_dead()
    assert tree.probability(second) == pytest.approx(0.5)


def test_a_guess_that_is_there_already_leaves_what_follows_it_to_its_twin() -> None:
    tree = a_tree(guessed(10, 0.6))
    hung(tree, 10)
    tree.offer(tree.shared.frontier, [guessed(10, 0.6, guessed(11, 0.5))])
    assert waiting(tree) == [(3, 11)]


def test_a_guess_joins_its_twin_in_the_reserve() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(10, 0.6, guessed(11, 0.5)))
    assert waiting(tree) == [(2, 10)]
    hung(tree, 10)
    assert waiting(tree) == [(3, 11)]


@pytest.mark.parametrize("source", [None, SparseDistribution((10, 11), (1, 1))])
def test_no_other_guess_joins_draws_and_one_that_may_not_is_gone(
    source: SparseDistribution | None,
) -> None:
    tree = a_tree(guessed(11, 0.6, source=Q), guessed(10, 0.3, source=source))
    hung(tree, 11)
    ((node, candidate),) = tree.reserve()
    assert tree.hang(node, candidate, 0.0) is None
    assert waiting(tree) == []
    assert tree.take_unsent(0.0) == [DraftNode(1, 11, AtPosition(1), Q)]


# --- what commits do ------------------------------------------------------------------------------


def test_a_draw_is_never_hung_while_an_earlier_one_waits() -> None:
    source = SparseDistribution((10, 20), (1, 1))
    first, second = guessed(10, 0.6, source=source), guessed(20, 0.3, source=source)
    guesses = GuessTree((1, 2))
    frontier = guesses.shared.frontier
    guesses.offer(frontier, [first, second])
    assert guesses.hang(frontier, second, 0.0) is None
    assert [candidate for _, candidate in guesses.reserve()] == [first]
    assert guesses.hang(frontier, first, 0.0) is not None


def test_the_fates_of_guesses_are_told_whether_they_were_sent_or_not() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3), guessed(30, 0.1))
    hung(tree, 10)
    _, fates = tree.commit(2, (20,))
    assert told(fates) == [(10, False), (20, True), (30, False)]


def test_the_fates_go_on_along_the_committed_path_sent_or_not() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5, guessed(12, 0.4)), guessed(21, 0.2)))
    hung(tree, 10)
    _, fates = tree.commit(2, (10, 11, 99))
    assert told(fates) == [(10, True), (11, True), (21, False), (12, False)]


def test_what_hangs_from_a_refuted_guess_has_no_fate() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)), guessed(20, 0.3, guessed(21, 0.5)))
    hung(tree, 10, 11)
    _, fates = tree.commit(2, (99, 11))
    assert told(fates) == [(10, False), (20, False)]


def test_a_draw_that_was_not_sent_has_no_fate() -> None:
    tree = a_tree(guessed(11, 0.6, source=Q), guessed(10, 0.3, source=Q))
    hung(tree, 11)
    _, fates = tree.commit(2, (10,))
    assert told(fates) == [(11, False)]


def test_a_guess_of_the_reserve_that_is_committed_leaves_those_below_it_to_the_new_frontier() -> (
    None
):
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3, guessed(21, 0.9, guessed(22, 0.9))))
    hung(tree, 10)
    tree.commit(2, (20,))
    tree.forget_the_dead()
    assert waiting(tree) == [(3, 21)]
    assert list(tree.open_nodes()) == []
    tree.take_unsent(0.0)
    hung(tree, 21, 22)
    assert tree.take_unsent(0.0) == [DraftNode(2, 21, AtPosition(2)), DraftNode(3, 22, AtNode(2))]


def test_a_frontier_to_which_nothing_was_left_is_asked() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    tree.commit(2, (10, 11))
    tree.forget_the_dead()
    assert list(tree.open_nodes()) == [tree.shared.frontier]


def test_the_reserve_below_a_refuted_node_is_forgotten() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)), guessed(20, 0.3))
    hung(tree, 10)
    tree.commit(2, (20,))
    tree.forget_the_dead()
    assert waiting(tree) == []
    assert tree.hung(1) is None


def test_how_a_committed_node_was_hung_is_known_until_the_dead_are_forgotten() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)))
    hung(tree, 10, 11)
    committed, _ = tree.commit(2, (10, 11, 12))
    assert [entry.node_id for entry in committed] == [1, 2, None]
    assert tree.hung(1) is not None
    tree.forget_the_dead()
    assert tree.hung(1) is tree.hung(2) is tree.hung(None) is None


def test_a_commit_that_says_what_is_known_decides_nothing_again() -> None:
    tree = a_tree(guessed(10, 0.6))
    tree.commit(2, (7,))
    tree.forget_the_dead()
    tree.offer(tree.shared.frontier, [guessed(11, 0.5)])
    assert tree.commit(2, (7,)) == ([], [])
    assert told(tree.commit(2, (7, 11))[1]) == [(11, True)]


def test_a_commit_that_does_not_follow_from_the_text_changes_nothing() -> None:
    tree = a_tree(guessed(10, 0.6), guessed(20, 0.3, guessed(21, 0.9)))
    hung(tree, 10)
    for start, tokens in ((1, (3, 20)), (9, (20,))):
        with pytest.raises(ProtocolViolationError):
            tree.commit(start, tokens)
    assert waiting(tree) == [(2, 20)]
    assert list(tree.shared.tokens) == [1, 2]


# --- answers that come late -----------------------------------------------------------------------


def test_a_late_answer_is_offered_where_commits_have_led() -> None:
    tree = GuessTree((1, 2))
    tree.commit(2, (10, 11))
    place = tree.find(None, 1)
    assert place == 1
    fates = tree.offer(
        place, [guessed(10, 0.9, guessed(11, 0.8, guessed(12, 0.7))), guessed(20, 0.1)]
    )
    assert told(fates) == [(10, True), (20, False), (11, True)]
    assert waiting(tree) == [(4, 12)]


def test_draws_that_come_late_have_no_fate() -> None:
    tree = GuessTree((1, 2))
    tree.commit(2, (10,))
    place = tree.find(None, 1)
    assert tree.offer(place, [guessed(11, 0.8, source=Q), guessed(10, 0.1, source=Q)]) == []
    assert waiting(tree) == []


def test_a_node_is_found_as_what_it_has_become() -> None:
    tree = a_tree(guessed(10, 0.6, guessed(11, 0.5)), guessed(20, 0.3))
    _, second, _ = hung(tree, 10, 11, 20)
    assert tree.find(2, 3) is second
    tree.commit(2, (10, 11, 12))
    assert tree.find(1, 2) == 2  # overtaken
    assert tree.find(3, 2) is None  # refuted
    assert tree.find(None, 4) is tree.shared.frontier
    assert tree.offer(tree.find(3, 2), [guessed(21, 0.9)]) == []
