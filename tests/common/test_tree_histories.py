"""The heart of the test suite: any history of an edge, a verifier and the network between them.

A stateful property test drives two trees through random drafts, passes, hedges, delays,
duplicates and reconnects. Hypothesis shrinks what it finds.
"""

from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from outrider_common.tree import AtNode, AtPosition, DraftNode, Parent, SpeculationTree, TreeNode

NUM_TOKENS = 3
PROMPT = [0]


def target_token(prefix: tuple[int, ...]) -> int:
    """The target's own next token: a fixed, irregular function of the whole text."""
    state = 7
    for token in prefix:
        state = (state * 1103515245 + token * 12345 + 3) % (1 << 31)
    return (state >> 13) % NUM_TOKENS


def target_text(length: int) -> list[int]:
    tokens = list(PROMPT)
    while len(tokens) < length:
        tokens.append(target_token(tuple(tokens)))
    return tokens


@dataclass(frozen=True)
class CommitMessage:
    start: int
    tokens: tuple[int, ...]


class Histories(RuleBasedStateMachine):
    """One generation, from the first token to wherever Hypothesis stops."""

    def __init__(self) -> None:
        super().__init__()
        self.open_session(PROMPT)

    def open_session(self, prefix: list[int]) -> None:
        self.edge = SpeculationTree(prefix)
        self.cloud = SpeculationTree(prefix)
        self.uplink: deque[tuple[DraftNode, ...]] = deque()
        self.downlink: deque[CommitMessage] = deque()
        self.delivered_up: list[tuple[DraftNode, ...]] = []
        self.delivered_down: list[CommitMessage] = []
        self.gone: set[int] = set()  # ids the verifier has had alive and has pruned or committed
        self.was_live: set[int] = set()

    def watch_cloud_ids(self) -> None:
        live = {i for node in self.cloud.nodes() for i in node.ids}
        self.gone |= self.was_live - live
        self.was_live = live

    # --- the edge -----------------------------------------------------------------------------

    @rule(data=st.data())
    def draft(self, data: st.DataObject) -> None:
        """The edge hangs a few new nodes anywhere in its tree and sends them as one message."""
        sent: list[DraftNode] = []
        for _ in range(data.draw(st.integers(1, 4), label="nodes")):
            parents: list[TreeNode] = [self.edge.frontier, *self.edge.nodes()]
            parent = data.draw(st.sampled_from(parents), label="parent")
            token = data.draw(st.integers(0, NUM_TOKENS - 1), label="token")
            names: list[Parent] = [AtNode(i) for i in parent.ids]
            if parent is self.edge.frontier:
                names.append(AtPosition(parent.position))
            name = data.draw(st.sampled_from(names), label="parent name")
            node = DraftNode(self.edge.last_id + 1, token, name)
            self.edge.extend([node])
            sent.append(node)
        self.uplink.append(tuple(sent))

    @rule(depth=st.integers(1, 4))
    def draft_well(self, depth: int) -> None:
        """The edge drafts just what the target will say."""
        text = target_text(self.edge.num_committed + depth)
        parent: Parent = AtPosition(self.edge.num_committed - 1)
        sent: list[DraftNode] = []
        for token in text[self.edge.num_committed :]:
            node = DraftNode(self.edge.last_id + 1, token, parent)
            self.edge.extend([node])
            sent.append(node)
            parent = AtNode(node.node_id)
        self.uplink.append(tuple(sent))

    # --- the network --------------------------------------------------------------------------

    @precondition(lambda self: self.uplink)
    @rule()
    def deliver_up(self) -> None:
        message = self.uplink.popleft()
        self.cloud.extend(message)
        self.delivered_up.append(message)
        self.watch_cloud_ids()

    @precondition(lambda self: self.downlink)
    @rule()
    def deliver_down(self) -> None:
        message = self.downlink.popleft()
        self.edge.commit(message.start, message.tokens)
        self.delivered_down.append(message)

    @precondition(lambda self: self.delivered_up)
    @rule(data=st.data())
    def deliver_up_again(self, data: st.DataObject) -> None:
        before = (list(self.cloud.tokens), [tuple(n.ids) for n in self.cloud.nodes()])
        self.cloud.extend(data.draw(st.sampled_from(self.delivered_up)))
        assert before == (list(self.cloud.tokens), [tuple(n.ids) for n in self.cloud.nodes()])

    @precondition(lambda self: self.delivered_down)
    @rule(data=st.data())
    def deliver_down_again(self, data: st.DataObject) -> None:
        message = data.draw(st.sampled_from(self.delivered_down))
        assert self.edge.commit(message.start, message.tokens) == []

    @rule()
    def reconnect(self) -> None:
        """Everything in flight is lost; the edge goes on from what it knows to be final."""
        self.open_session(list(self.edge.tokens))

    # --- the verifier -------------------------------------------------------------------------

    @rule(max_accepted=st.integers(0, 5))
    def verify(self, max_accepted: int) -> None:
        """One pass: follow the children that carry the target's token, then one of its own.

        With no drafts there this is a hedge.
        """
        start = self.cloud.num_committed
        node = self.cloud.frontier
        text = list(self.cloud.tokens)
        for _ in range(max_accepted + 1):
            token = target_token(tuple(text))
            text.append(token)
            child = node.children.get(token)
            if child is None:
                break
            node = child
        tokens = tuple(text[start:])
        committed = self.cloud.commit(start, tokens)
        assert all(c.node_id is not None for c in committed[:-1])
        self.downlink.append(CommitMessage(start, tokens))
        self.watch_cloud_ids()

    # --- what always holds --------------------------------------------------------------------

    @invariant()
    def both_texts_are_prefixes_of_the_targets_own(self) -> None:
        for tree in (self.edge, self.cloud):
            assert list(tree.tokens) == target_text(tree.num_committed)

    @invariant()
    def the_edge_never_knows_more_than_the_verifier(self) -> None:
        assert self.edge.num_committed <= self.cloud.num_committed

    @invariant()
    def every_live_node_hangs_from_the_frontier(self) -> None:
        for tree in (self.edge, self.cloud):
            seen = 0
            for node in tree.nodes():
                path = node.path()
                assert path[0].parent is tree.frontier
                assert path[-1] is node
                assert node.position == tree.num_committed - 1 + len(path)
                seen += len(node.ids)
            assert seen == tree.num_outstanding

    @invariant()
    def no_id_is_resurrected(self) -> None:
        assert not self.gone & {i for node in self.cloud.nodes() for i in node.ids}

    @invariant()
    def an_id_means_the_same_path_on_both_sides(self) -> None:
        for node in self.cloud.nodes():
            for node_id in node.ids:
                twin = self.edge.find(node_id)
                assert twin is not None, "the verifier holds a node that the edge has dropped"
                edge_text = [*self.edge.tokens, *(n.token for n in twin.path())]
                assert edge_text == [*self.cloud.tokens, *(n.token for n in node.path())]

    @invariant()
    def the_verifier_never_has_more_outstanding_than_the_edge(self) -> None:
        assert self.cloud.num_outstanding <= self.edge.num_outstanding


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
