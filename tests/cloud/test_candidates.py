"""What a pass may check: the edge's nodes and own guesses, in an order that fits any grant."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.candidates import Candidate, drafts_by_worth, with_own_guesses
from outrider_cloud.own_guesses import OwnGuesses
from outrider_cloud.verification import Ending, plan_pass, useful_nodes
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree, TreeNode

REPEATING = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
"""What comes next by its own example: 3, 4, 5, 1, ..."""


def a_tree(text: list[int], *paths: tuple[int, ...]) -> SpeculationTree:
    """A tree with chains of these tokens below the frontier."""
    tree = SpeculationTree(text)
    for path in paths:
        parent: AtNode | AtPosition = AtPosition(len(text) - 1)
        for token in path:
            node_id = tree.last_id + 1
            tree.extend([DraftNode(node_id, token, parent)])
            parent = AtNode(node_id)
    return tree


def candidates_of(
    tree: SpeculationTree, *, acceptance: float = 0.5, most: int = 4, max_length: int = 100
) -> list[Candidate]:
    ending = Ending(frozenset(), max_length)
    nodes = useful_nodes(tree, ending)
    return with_own_guesses(
        tree.frontier,
        drafts_by_worth(tree.frontier, nodes, [acceptance]),
        OwnGuesses(tree.tokens),
        most=most,
        end=ending.useless_from,
    )


def own(candidates: list[Candidate]) -> list[tuple[int, ...]]:
    """Of each own guess the tokens from the frontier to it."""
    return [path_of(one.node) for one in candidates if not one.node.ids]


def path_of(node: TreeNode) -> tuple[int, ...]:
    return tuple(above.token for above in node.path())


trees = st.builds(
    a_tree,
    st.lists(st.integers(0, 2), min_size=1, max_size=20),
    *[st.lists(st.integers(0, 2), max_size=4).map(tuple)] * 3,
)


@given(tree=trees, most=st.integers(0, 6), room=st.integers(1, 9), acceptance=st.floats(0, 1))
def test_any_beginning_of_the_candidates_is_a_tree_of_nodes_that_are_of_use(
    tree: SpeculationTree, most: int, room: int, acceptance: float
) -> None:
    max_length = tree.num_committed + room
    before = [(node, tuple(node.children)) for node in (tree.frontier, *tree.nodes())]
    found = candidates_of(tree, acceptance=acceptance, most=most, max_length=max_length)
    values = [one.value for one in found]
    assert values == sorted(values, reverse=True)
    assert all(0 <= value <= 1 for value in values)
    drafts = [one.node for one in found if one.node.ids]
    assert set(drafts) == set(useful_nodes(tree, Ending(frozenset(), max_length)))
    assert len(found) - len(drafts) <= most
    assert all(one.node.position < max_length - 1 for one in found)
    paths = [path_of(one.node) for one in found]
    assert len(set(paths)) == len(paths)  # nothing is checked twice
    for count in range(len(found) + 1):
        plan_pass(tree.frontier, [one.node for one in found[:count]])  # parents come first
    assert before == [(node, tuple(node.children)) for node in (tree.frontier, *tree.nodes())]


def test_a_node_is_worth_the_chances_of_its_rank_and_of_those_above_it() -> None:
    tree = a_tree([5], (1, 2, 3), (7, 8), (1, 9))
    found = drafts_by_worth(tree.frontier, [*tree.nodes()], [0.5, 0.25])
    assert {path_of(node): value for node, value in found.items()} == {
        (1,): 0.5, (7,): 0.25, (1, 2): 0.25, (1, 9): 0.125, (7, 8): 0.125, (1, 2, 3): 0.125,
    }  # fmt: skip


def test_without_drafts_guesses_hang_from_the_frontier() -> None:
    assert own(candidates_of(a_tree(REPEATING), most=3)) == [(3,), (3, 4), (3, 4, 5)]


def test_guesses_go_on_where_drafts_that_agree_end() -> None:
    found = candidates_of(a_tree(REPEATING, (3, 4)), most=2)
    assert own(found) == [(3, 4, 5), (3, 4, 5, 1)]


def test_guesses_go_on_behind_drafts_that_they_would_not_have_made() -> None:
    text = [7, 8, 9, *REPEATING]
    found = own(candidates_of(a_tree(text, (7, 8)), most=8, acceptance=0.9))
    assert (7, 8, 9) in found
    assert (3,) in found


def test_they_go_on_behind_the_edges_first_guess_not_behind_its_second() -> None:
    text = [7, 8, 9, *REPEATING]
    found = own(candidates_of(a_tree(text, (7, 8), (5, 1)), most=8, acceptance=0.9))
    assert {path[0] for path in found} == {7, 3}  # 3 follows the frontier


def test_a_draft_that_says_the_same_is_worth_more_for_it() -> None:
    alone = {path_of(one.node): one.value for one in candidates_of(a_tree(REPEATING))}
    tree = a_tree(REPEATING, (3, 9))
    merged = {path_of(one.node): one.value for one in candidates_of(tree, acceptance=0.1)}
    assert merged[3,] == alone[3,] > 0.1
    assert merged[3, 9] == 0.1**2
    assert own(candidates_of(tree, acceptance=0.1, most=1)) == [(3, 4)]


def test_a_likelier_draft_keeps_its_value() -> None:
    found = candidates_of(a_tree(REPEATING, (3,)), acceptance=0.99)
    assert found[0].value == 0.99


def test_no_guess_is_made_for_the_last_position_of_the_text() -> None:
    tree = a_tree(REPEATING)
    assert own(candidates_of(tree, max_length=len(REPEATING) + 2)) == [(3,)]
    assert own(candidates_of(tree, max_length=len(REPEATING) + 1)) == []
