"""Draft nodes survive the wire, and what no correct edge sends is refused."""

import contextlib
from collections.abc import Sequence
from itertools import pairwise

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import MAX_DRAFT_TOKENS, SparseDistribution
from outrider_common.errors import ProtocolViolationError
from outrider_common.tree import AtNode, AtPosition, DraftNode, Parent
from outrider_common.wire_nodes import NodeDecoder, NodeEncoder

tokens = st.integers(0, 2**32 - 1)
drafts = st.dictionaries(tokens, st.integers(1, 255), min_size=1, max_size=MAX_DRAFT_TOKENS).map(
    lambda q: SparseDistribution(tuple(sorted(q)), tuple(q[token] for token in sorted(q)))
)


@st.composite
def batches_of_nodes(draw: st.DrawFn) -> list[list[DraftNode]]:
    """Nodes with gaps between their ids, each below a position or an earlier one, in batches."""
    nodes: list[DraftNode] = []
    for node_id in sorted(draw(st.sets(st.integers(1, 40), min_size=1, max_size=20))):
        parents: list[st.SearchStrategy[Parent]] = [st.integers(0, 3).map(AtPosition)]
        if nodes:
            earlier = [node.node_id for node in nodes]
            parents += [st.sampled_from(earlier).map(AtNode), st.just(AtNode(earlier[-1]))]
        draft = draw(st.none() | drafts)
        nodes.append(DraftNode(node_id, draw(tokens), draw(st.one_of(parents)), draft))
    cuts = sorted(draw(st.sets(st.integers(1, len(nodes)))) | {0, len(nodes)})
    return [nodes[begin:end] for begin, end in pairwise(cuts)]


def arrived(batches: Sequence[Sequence[DraftNode]]) -> list[DraftNode]:
    """What the verifier makes of what an edge sends."""
    encoder, decoder = NodeEncoder(), NodeDecoder()
    messages = [
        request.SerializeToString() for nodes in batches for request in encoder.encode(nodes)
    ]
    requests = map(pb.SessionRequest.FromString, messages)
    return [node for request in requests for node in decoder.decode(request.extend).nodes]


def numbered(nodes: Sequence[DraftNode]) -> list[DraftNode]:
    """The same nodes with the ids 1, 2, 3, ..."""
    numbers = {node.node_id: number for number, node in enumerate(nodes, start=1)}

    def parent(node: DraftNode) -> Parent:
        is_node = isinstance(node.parent, AtNode)
        return AtNode(numbers[node.parent.node_id]) if is_node else node.parent  # type: ignore[union-attr]

    return [
        DraftNode(numbers[node.node_id], node.token, parent(node), node.draft) for node in nodes
    ]


@given(batches=batches_of_nodes())
def test_draft_nodes_of_any_shape_arrive_numbered_in_their_order(
    batches: list[list[DraftNode]],
) -> None:
    assert arrived(batches) == numbered([node for nodes in batches for node in nodes])


def chain(first_id: int, last_id: int, parent: Parent) -> list[DraftNode]:
    """Nodes one below the other, with a token of two bytes."""
    later = [DraftNode(i, 500, AtNode(i - 1)) for i in range(first_id + 1, last_id + 1)]
    return [DraftNode(first_id, 500, parent), *later]


def num_bytes(encoder: NodeEncoder, nodes: Sequence[DraftNode]) -> int:
    """Of the one message that carries these nodes."""
    (request,) = encoder.encode(nodes)
    return request.ByteSize()


def test_a_chain_costs_its_tokens_and_its_beginning() -> None:
    # the tag and the length of the message and of its tokens; the position
    assert num_bytes(NodeEncoder(), chain(8, 19, AtPosition(70))) == 2 + 2 + 12 * 2 + 2


def test_a_chain_that_goes_on_costs_its_tokens_alone() -> None:
    encoder = NodeEncoder()
    num_bytes(encoder, chain(8, 19, AtPosition(70)))
    assert num_bytes(encoder, chain(20, 22, AtNode(19))) == 2 + 2 + 3 * 2


def test_ids_that_were_never_sent_cost_nothing() -> None:
    encoder = NodeEncoder()
    num_bytes(encoder, chain(8, 9, AtPosition(70)))
    nodes = [DraftNode(200, 500, AtNode(9)), DraftNode(300, 500, AtNode(200))]
    assert num_bytes(encoder, nodes) == 2 + 2 + 2 * 2


def test_a_sibling_costs_the_distances_up_to_it() -> None:
    encoder = NodeEncoder()
    beside = [
        *chain(8, 9, AtPosition(70)),
        DraftNode(10, 500, AtNode(8)),
        *chain(11, 13, AtNode(10)),
    ]
    plain = num_bytes(NodeEncoder(), chain(8, 13, AtPosition(70)))
    assert num_bytes(encoder, beside) == plain + 2 + 2  # tag and length; two distances


def test_a_node_whose_parent_was_never_sent_is_left_out() -> None:
    sent = [DraftNode(2, 500, AtNode(1)), DraftNode(3, 501, AtPosition(0)), *chain(4, 5, AtNode(2))]
    assert arrived([sent]) == [DraftNode(1, 501, AtPosition(0))]


def test_a_distribution_costs_a_byte_for_each_weight_and_the_steps_between_its_tokens() -> None:
    draft = SparseDistribution(tuple(range(100, 40_100, 2500)), (15,) * 16)
    plain, drawn = (
        num_bytes(NodeEncoder(), [DraftNode(8, 500, AtPosition(7), source)])
        for source in (None, draft)
    )
    # tag and length of the distribution, of its steps, of its weights; 1 + 15 * 2; 16
    assert drawn - plain == 2 + 2 + 2 + (1 + 15 * 2) + 16


def test_a_distribution_arrives_in_ascending_order() -> None:
    sent = SparseDistribution((7, 3), (1, 2))
    (node,) = arrived([[DraftNode(1, 3, AtPosition(0), sent)]])
    assert node.draft == SparseDistribution((3, 7), (2, 1))


def a_distribution(**fields: object) -> pb.DraftDistribution:
    whole = {"first_child": 0, "token_steps": [3, 1], "weights": b"\x01\x02"}
    return pb.DraftDistribution(**(whole | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("distributions", "sentence"),
    [
        ([a_distribution(first_child=1)], "node 1 of a message that has 1"),
        ([a_distribution(), a_distribution()], "at most one"),
        ([a_distribution(token_steps=[1] * 65, weights=b"\x01" * 65)], "has 65 tokens"),
        ([a_distribution(token_steps=[3])], "1 tokens and 2 weights"),
        ([a_distribution(token_steps=[], weights=b"")], "0 tokens and 0 weights"),
        ([a_distribution(token_steps=[3, 0])], "distinct"),
        ([a_distribution(weights=b"\x01\x00")], "above 0"),
    ],
)
def test_a_distribution_that_is_none_is_refused_with_a_sentence(
    distributions: list[pb.DraftDistribution], sentence: str
) -> None:
    message = pb.Extend(parent_position=0, tokens=[3], distributions=distributions)
    with pytest.raises(ProtocolViolationError, match=sentence):
        NodeDecoder().decode(message)


@given(messages=st.lists(st.binary(max_size=200), max_size=3))
def test_any_bytes_are_draft_nodes_or_refused(messages: list[bytes]) -> None:
    decoder = NodeDecoder()
    with contextlib.suppress(DecodeError, ProtocolViolationError):
        for data in messages:
            for node in decoder.decode(pb.Extend.FromString(data)).nodes:
                assert node.draft is None or node.draft.fits_the_wire


@pytest.mark.parametrize(("num_tokens", "num_distances"), [(0, 1), (1, 1), (2, 2), (2, 9)])
def test_a_parent_list_that_does_not_fit_is_refused(num_tokens: int, num_distances: int) -> None:
    message = pb.Extend(tokens=[1] * num_tokens, later_distances=[1] * num_distances)
    with pytest.raises(ProtocolViolationError, match=f"{num_tokens} tokens but {num_distances} p"):
        NodeDecoder().decode(message)


def test_a_refused_message_uses_up_no_numbers() -> None:
    decoder = NodeDecoder()
    with pytest.raises(ProtocolViolationError):
        decoder.decode(pb.Extend(tokens=[1], later_distances=[1]))
    (node,) = decoder.decode(pb.Extend(parent_position=0, tokens=[1])).nodes
    assert node.node_id == 1


def test_an_extend_without_nodes_is_empty() -> None:
    assert NodeDecoder().decode(pb.Extend()).nodes == ()
