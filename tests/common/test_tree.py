"""The rules of the speculation tree, one sentence each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.acceptance import SparseDistribution
from outrider_common.errors import ProtocolViolationError
from outrider_common.tree import AtNode, AtPosition, Committed, DraftNode, SpeculationTree, TreeNode


def chain(tree: SpeculationTree, *tokens: int) -> list[int]:
    """Hang a chain from the frontier; its ids."""
    first_id = tree.last_id + 1
    nodes = [DraftNode(first_id, tokens[0], AtPosition(tree.num_committed - 1))]
    nodes += [
        DraftNode(first_id + i, token, AtNode(first_id + i - 1))
        for i, token in enumerate(tokens)
        if i > 0
    ]
    tree.extend(nodes)
    return [node.node_id for node in nodes]


def live_tokens(tree: SpeculationTree) -> list[int]:
    return [node.token for node in tree.nodes()]


def find(tree: SpeculationTree, node_id: int) -> TreeNode:
    node = tree.find(node_id)
    assert node is not None
    return node


def test_a_new_tree_has_only_its_prefix() -> None:
    tree = SpeculationTree([5, 6, 7])
    assert list(tree.tokens) == [5, 6, 7]
    assert tree.frontier.position == 2
    assert tree.num_outstanding == 0


def test_a_tree_without_a_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SpeculationTree([])


def test_a_commit_that_a_child_carries_keeps_its_subtree_and_names_its_position() -> None:
    tree = SpeculationTree([1])
    first, second, third = chain(tree, 10, 11, 12)
    assert tree.commit(1, [10]) == [Committed(10, 1, first)]
    assert live_tokens(tree) == [11, 12]
    assert tree.committed_position(first) == 1
    assert find(tree, second).parent is tree.frontier
    assert [node.token for node in find(tree, third).path()] == [11, 12]


def test_a_commit_prunes_the_siblings_with_their_subtrees() -> None:
    tree = SpeculationTree([1])
    chain(tree, 10, 11)
    sibling, below = chain(tree, 20, 21)
    tree.commit(1, [10])
    assert live_tokens(tree) == [11]
    assert tree.find(sibling) is None
    assert tree.find(below) is None


def test_a_commit_that_no_child_carries_empties_the_tree() -> None:
    tree = SpeculationTree([1])
    chain(tree, 10, 11)
    assert tree.commit(1, [99]) == [Committed(99, 1, None)]
    assert tree.num_outstanding == 0
    assert tree.frontier.token == 99
    assert tree.frontier.ids == []


def test_a_node_whose_parent_was_pruned_is_dropped_silently() -> None:
    tree = SpeculationTree([1])
    (wrong,) = chain(tree, 10)
    tree.commit(1, [99])
    tree.extend([DraftNode(2, 11, AtNode(wrong)), DraftNode(3, 12, AtNode(2))])
    assert tree.num_outstanding == 0
    assert tree.last_id == 3


def test_a_latecomer_that_matches_the_text_names_its_position() -> None:
    tree = SpeculationTree([1])
    tree.commit(1, [10, 11])
    tree.extend([DraftNode(1, 10, AtPosition(0)), DraftNode(2, 11, AtNode(1))])
    assert tree.committed_position(2) == 2
    tree.extend([DraftNode(3, 12, AtNode(2))])
    assert live_tokens(tree) == [12]
    assert find(tree, 3).position == 3


def test_a_latecomer_that_differs_from_the_text_is_dropped_with_its_children() -> None:
    tree = SpeculationTree([1])
    tree.commit(1, [10, 11])
    tree.extend([DraftNode(1, 77, AtPosition(0)), DraftNode(2, 11, AtNode(1))])
    assert tree.committed_position(1) is None
    assert tree.num_outstanding == 0


def test_children_of_one_parent_with_the_same_token_are_one_node_with_two_names() -> None:
    tree = SpeculationTree([1])
    tree.extend([DraftNode(1, 10, AtPosition(0)), DraftNode(2, 10, AtPosition(0))])
    assert tree.find(1) is tree.find(2)
    assert live_tokens(tree) == [10]
    assert tree.num_outstanding == 2
    tree.extend([DraftNode(3, 11, AtNode(2))])
    tree.commit(1, [10])
    assert tree.committed_position(1) == tree.committed_position(2) == 1
    assert live_tokens(tree) == [11]


def test_pruning_a_node_forgets_every_name_it_has() -> None:
    tree = SpeculationTree([1])
    tree.extend([DraftNode(1, 10, AtPosition(0)), DraftNode(2, 10, AtPosition(0))])
    tree.commit(1, [99])
    assert tree.num_outstanding == 0
    assert tree.find(2) is None


def test_an_id_that_was_used_before_is_ignored() -> None:
    tree = SpeculationTree([1])
    chain(tree, 10)
    tree.extend([DraftNode(1, 55, AtPosition(0))])
    assert live_tokens(tree) == [10]


def test_a_repeated_commit_changes_nothing() -> None:
    tree = SpeculationTree([1])
    chain(tree, 10, 11)
    tree.commit(1, [10])
    assert tree.commit(1, [10]) == []
    assert live_tokens(tree) == [11]


def test_an_overlapping_commit_adds_only_what_is_new() -> None:
    tree = SpeculationTree([1])
    tree.commit(1, [10])
    assert [c.token for c in tree.commit(1, [10, 11])] == [11]


@pytest.mark.parametrize(
    ("start", "tokens", "fault"),
    [(3, [10], "position 3"), (-1, [10], "position -1"), (0, [2], "contradicts")],
)
def test_a_commit_that_cannot_follow_is_refused_and_changes_nothing(
    start: int, tokens: list[int], fault: str
) -> None:
    tree = SpeculationTree([1])
    with pytest.raises(ProtocolViolationError, match=fault):
        tree.commit(start, tokens)
    assert list(tree.tokens) == [1]


@pytest.mark.parametrize(
    ("parent", "fault"),
    [
        (AtNode(7), "names node 7"),
        (AtNode(0), "names node 0"),
        (AtNode(2), "names node 2"),
        (AtPosition(1), "names position 1"),
        (AtPosition(-1), "names position -1"),
    ],
)
def test_a_parent_from_nowhere_is_refused_and_nothing_is_added(
    parent: AtNode | AtPosition, fault: str
) -> None:
    tree = SpeculationTree([1])
    good = DraftNode(1, 10, AtPosition(0))
    with pytest.raises(ProtocolViolationError, match=fault):
        tree.extend([good, DraftNode(2, 11, parent)])
    assert tree.num_outstanding == 0
    assert tree.last_id == 0


def test_only_the_latest_committed_ids_are_remembered() -> None:
    tree = SpeculationTree([1], committed_id_window=2)
    chain(tree, 10, 11, 12)
    tree.commit(1, [10, 11, 12])
    assert [tree.committed_position(i) for i in (1, 2, 3)] == [None, 2, 3]
    tree.extend([DraftNode(4, 11, AtNode(1))])
    assert tree.committed_position(4) is None


def test_live_nodes_come_parents_first() -> None:
    tree = SpeculationTree([1])
    tree.extend(
        [
            DraftNode(1, 10, AtPosition(0)),
            DraftNode(2, 20, AtPosition(0)),
            DraftNode(3, 11, AtNode(1)),
            DraftNode(4, 20, AtPosition(0)),
            DraftNode(5, 21, AtNode(4)),
        ]
    )
    assert live_tokens(tree) == [10, 20, 11, 21]


# --- what children were drawn from ----------------------------------------------------------------

Q = SparseDistribution((1, 2, 3), (5, 4, 1))
OTHER_Q = SparseDistribution((1, 2, 3), (1, 1, 1))


def drawn(node_id: int, token: int, draft: SparseDistribution | None) -> DraftNode:
    return DraftNode(node_id, token, AtPosition(0), draft)


@pytest.mark.parametrize(
    ("drafts", "believed"),
    [
        ((Q, None), Q),
        ((Q, Q), Q),
        ((None, None), None),
        ((None, Q), None),
        ((Q, OTHER_Q), None),
        ((Q, OTHER_Q, Q), None),
    ],
    ids=["once", "again", "never", "too late", "contradicted", "contradicted, then repeated"],
)
def test_what_children_were_drawn_from_is_known_only_if_it_came_first_and_stayed(
    drafts: tuple[SparseDistribution | None, ...], believed: SparseDistribution | None
) -> None:
    tree = SpeculationTree([7])
    for i, draft in enumerate(drafts, start=1):
        tree.extend([drawn(i, i, draft)])
    assert tree.frontier.draft == believed
    assert list(tree.frontier.children) == list(range(1, len(drafts) + 1))


def test_what_children_were_drawn_from_lives_and_dies_with_their_parent() -> None:
    tree = SpeculationTree([7])
    tree.extend([drawn(1, 1, Q), drawn(2, 2, None)])
    tree.extend([DraftNode(3, 5, AtNode(1), OTHER_Q), DraftNode(4, 6, AtNode(2), Q)])
    tree.commit(1, [1])
    assert tree.frontier.draft == OTHER_Q
    tree.commit(2, [9])
    assert tree.frontier.draft is None


def test_a_latecomer_brings_no_distribution_into_the_tree() -> None:
    tree = SpeculationTree([7])
    tree.commit(1, [1])
    tree.extend([drawn(1, 1, Q)])
    assert tree.frontier.draft is None
    tree.extend([DraftNode(2, 5, AtNode(1), OTHER_Q)])
    assert tree.frontier.draft == OTHER_Q


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[list[DraftNode], list[int]]]:
    """Nodes that come, and then tokens that become final, several times."""
    steps = []
    next_id = 1
    for _ in range(draw(st.integers(1, 4))):
        nodes: list[DraftNode] = []
        for _ in range(draw(st.integers(0, 5))):
            above = draw(st.integers(0, next_id - 1))
            parent = AtNode(above) if above else AtPosition(0)
            nodes.append(DraftNode(next_id, draw(st.integers(0, 2)), parent))
            next_id += 1
        steps.append((nodes, draw(st.lists(st.integers(0, 2), max_size=4))))
    return steps


@given(history=histories(), window=st.integers(0, 6))
def test_to_append_is_to_commit_at_the_end(
    history: list[tuple[list[DraftNode], list[int]]], window: int
) -> None:
    one, other = (SpeculationTree([1], committed_id_window=window) for _ in range(2))
    for nodes, tokens in history:
        one.extend(nodes)
        other.extend(nodes)
        one.append(tokens)
        other.commit(other.num_committed, tokens)
        assert one.tokens == other.tokens
        assert [node.ids for node in one.nodes()] == [node.ids for node in other.nodes()]
        names = range(1, one.last_id + 1)
        assert [*map(one.committed_position, names)] == [*map(other.committed_position, names)]
