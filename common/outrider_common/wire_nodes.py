"""Draft nodes as messages: numbered as they come, parents named by how far back they are.

What both sides of a stream know is left out. What arrives is checked as far as its form goes; its
parents are checked by the tree.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from outrider.v1 import verifier_pb2 as pb
from outrider_common.acceptance import MAX_DRAFT_TOKENS, SparseDistribution
from outrider_common.errors import ProtocolViolationError
from outrider_common.messages import Extend
from outrider_common.tree import AtNode, AtPosition, DraftNode


class NodeEncoder:
    """Turns the draft nodes of one session into requests.

    The numbers on the wire are its own, so that nodes which are never sent cost nothing.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}  # by id

    def encode(self, nodes: Sequence[DraftNode]) -> Iterator[pb.SessionRequest]:
        """The requests that carry the next nodes: one, unless they hang from several positions.

        A node whose parent was never encoded is left out: the verifier could hang it nowhere.

        Args:
            nodes: parents before their children; what they were drawn from must fit the wire
                (`SparseDistribution.fits_the_wire`).
        """
        numbered = [node for node in nodes if self._number(node)]
        begin = 0
        for end in range(1, len(numbered) + 1):
            if end == len(numbered) or not _continues(numbered[begin], numbered[end]):
                yield pb.SessionRequest(extend=self._encode_run(numbered[begin:end]))
                begin = end

    def _number(self, node: DraftNode) -> bool:
        """Give a node the next number, if its parent is a position or has one."""
        has_parent = isinstance(node.parent, AtPosition) or node.parent.node_id in self._numbers
        if has_parent:
            self._numbers[node.node_id] = len(self._numbers) + 1
        return has_parent

    def _distance(self, node: DraftNode) -> int:
        """How far back a node's parent is; 0 for a position."""
        if isinstance(node.parent, AtPosition):
            return 0
        return self._numbers[node.node_id] - self._numbers[node.parent.node_id]

    def _encode_run(self, nodes: Sequence[DraftNode]) -> pb.Extend:
        first, *later = nodes
        message = pb.Extend(tokens=[node.token for node in nodes])
        if isinstance(first.parent, AtPosition):
            message.parent_position = first.parent.position
        elif self._distance(first) != 1:
            message.parent_distance = self._distance(first)
        message.later_distances.extend(_without_ones([self._distance(node) for node in later]))
        message.distributions.extend(
            _encode_distribution(place, node.draft)
            for place, node in enumerate(nodes)
            if node.draft is not None
        )
        return message


def _continues(first: DraftNode, node: DraftNode) -> bool:
    """Whether the message that begins with a node can carry another one."""
    return isinstance(node.parent, AtNode) or node.parent == first.parent


def _without_ones(distances: list[int]) -> list[int]:
    """Without the ones at the end."""
    while distances and distances[-1] == 1:
        distances.pop()
    return distances


def _encode_distribution(place: int, draft: SparseDistribution) -> pb.DraftDistribution:
    """What the node at a place of its message, and its siblings, were drawn from."""
    token_ids, weights = zip(*sorted(zip(draft.token_ids, draft.weights, strict=True)), strict=True)
    before = (0, *token_ids)
    return pb.DraftDistribution(
        first_child=place,
        token_steps=[token - last for token, last in zip(token_ids, before, strict=False)],
        weights=bytes(weights),
    )


class NodeDecoder:
    """Turns the requests of one session into draft nodes."""

    def __init__(self) -> None:
        self._last_number = 0

    def decode(self, message: pb.Extend) -> Extend:
        """The draft nodes of the next message; their ids are their numbers.

        Raises:
            ProtocolViolationError: a parent list that does not fit the tokens, or a distribution
                that is none.
        """
        num_nodes = len(message.tokens)
        first = self._last_number + 1
        base = _decode_base(message, first)
        distances = _all_distances(message.later_distances, num_nodes)
        drafts = _decode_distributions(message.distributions, num_nodes)
        self._last_number += num_nodes
        return Extend(
            tuple(
                DraftNode(number, token, AtNode(number - back) if back else base, drafts.get(place))
                for place, (number, token, back) in enumerate(
                    zip(range(first, first + num_nodes), message.tokens, distances, strict=True)
                )
            )
        )


def _decode_base(message: pb.Extend, first: int) -> AtNode | AtPosition:
    match message.WhichOneof("parent"):
        case "parent_position":
            return AtPosition(message.parent_position)
        case "parent_distance":
            return AtNode(first - message.parent_distance)
        case _:
            return AtNode(first - 1)


def _all_distances(later: Sequence[int], num_nodes: int) -> list[int]:
    """Of each node; 0 where it hangs from what the first one hangs from."""
    if len(later) >= max(num_nodes, 1):
        raise ProtocolViolationError(
            f"A message of draft nodes has {num_nodes} tokens but {len(later)} parent distances; "
            "send one for each token but the first at most."
        )
    return [0, *later, *[1] * (num_nodes - 1 - len(later))][:num_nodes]


def _decode_distributions(
    messages: Sequence[pb.DraftDistribution], num_nodes: int
) -> dict[int, SparseDistribution]:
    """What the children of some parents were drawn from, under the place of the first child."""
    drafts: dict[int, SparseDistribution] = {}
    for message in messages:
        place = message.first_child
        if place >= num_nodes or place in drafts:
            raise ProtocolViolationError(
                f"A draft distribution belongs to node {place} of a message that has {num_nodes} "
                "nodes, counted from 0; send at most one for each of them."
            )
        drafts[place] = _decode_distribution(message)
    return drafts


def _decode_distribution(message: pb.DraftDistribution) -> SparseDistribution:
    num_tokens = len(message.token_steps)
    if num_tokens > MAX_DRAFT_TOKENS:
        raise ProtocolViolationError(
            f"A draft distribution has {num_tokens} tokens; send the {MAX_DRAFT_TOKENS} likeliest "
            "at most."
        )
    return SparseDistribution(tuple(accumulate(message.token_steps)), tuple(message.weights))
