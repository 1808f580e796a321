"""The edge's session in any history of drafts, prices and credits: what exactness hangs on.

In the acceptance mode `rejection` the verifier takes the children of a node for the first draws
from the distribution that came with them, in the order of their ids. A later draw without the
earlier ones would be judged as if it had been drawn first, and the text would be biased.
"""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_common.acceptance import SparseDistribution
from outrider_common.messages import Commit
from outrider_common.tree import SpeculationTree, TreeNode
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import WINDOW, Estimators
from outrider_edge.proposer import CONTEXT_END, Draft
from outrider_edge.session import DraftRun, EdgeSession

VOCAB_SIZE = 4
LENGTH = 60
DRAWN_PRIORS = (0.8, 0.16, 0.032)


class DrawHistory:
    """A session whose proposers draw here and guess there, and a verifier of changing mood.

    Args:
        seed: of everything.
        limit: nodes that may be outstanding.
    """

    def __init__(self, seed: int, limit: int) -> None:
        self.coins = random.Random(seed)
        self.limit = self.credit = limit
        self.now = 0.0
        self.estimators = self.some_estimators()
        self.edge = EdgeSession(
            (0,),
            max_outstanding_nodes=limit,
            max_depth=self.coins.randint(1, 6),
            max_length=LENGTH,
            calibration=self.some_calibration(),
            estimators=self.estimators,
            clock=lambda: self.now,
        )
        self.cloud = SpeculationTree((0,))
        self.drawn: dict[SparseDistribution, tuple[int, ...]] = {}
        self.asked: DraftRun | None = None
        self.last_id = 0

    def some_estimators(self) -> Estimators:
        estimators = Estimators()
        share = self.coins.choice([0.0, 0.3, 1.0])
        estimators.drafted(0.01, num_leaves=1, num_levels=1)
        for _ in range(WINDOW):
            estimators.drafted(0.01 * (1 + share), num_leaves=2, num_levels=1)
        return estimators

    def some_calibration(self) -> Calibration:
        """Nothing is known, or what makes all draws worth the same, or the later ones more."""
        calibration = Calibration()
        for _ in range(self.coins.choice([0, 30])):
            draft = self.draws()
            session = EdgeSession(
                (0,), max_outstanding_nodes=9, max_depth=2, max_length=9, calibration=calibration
            )
            run = session.next_run()
            assert run is not None
            session.add(run, [draft], "lm")
            session.receive(Commit(1, (draft.tokens[-1],), 0, num_rows=1))
        return calibration

    def step(self) -> None:
        self.now += self.coins.choice([0.0, 0.01, 0.05])
        self.coins.choice([self.ask, self.answer, self.answer, self.send, self.verify])()

    def ask(self) -> None:
        if self.asked is None:
            self.asked = self.edge.next_run()

    def answer(self) -> None:
        if self.asked is not None:
            makers = (self.draws, self.draws, self.chain, Draft)
            drafts = [self.coins.choice(makers)() for _ in self.asked.points]
            self.edge.add(self.asked, drafts, "lm")
            self.asked = None

    def draws(self) -> Draft:
        """All that can be drawn, each with a source of its own, to be told apart."""
        drawn = getattr(self, "drawn", {})
        tokens = tuple(self.coins.sample(range(VOCAB_SIZE), len(DRAWN_PRIORS)))
        source = SparseDistribution(tuple(sorted(tokens)), (len(drawn) + 2, 1, 1))
        drawn[source] = tokens
        parents = (CONTEXT_END,) * len(tokens)
        return Draft(tokens, parents, DRAWN_PRIORS, drawn_from=(source,) * len(tokens))

    def chain(self) -> Draft:
        """What retrieval says: two continuations."""
        tokens = tuple(self.coins.randrange(VOCAB_SIZE) for _ in range(4))
        return Draft(
            tokens,
            (CONTEXT_END, 0, CONTEXT_END, 2),
            (0.9, 0.9, self.coins.random(), 0.9),
            ("retrieval",) * 4,
        )

    def send(self) -> None:
        nodes = self.edge.take_unsent()
        assert [node.node_id for node in nodes] == sorted(node.node_id for node in nodes)
        assert all(node.node_id > self.last_id for node in nodes)
        self.last_id = max([self.last_id, *(node.node_id for node in nodes)])
        self.cloud.extend(nodes)

    def verify(self) -> None:
        """A pass: it follows drafts for a while, then chooses for itself."""
        start = self.cloud.num_committed
        if start >= LENGTH - VOCAB_SIZE:
            return
        node: TreeNode | None = self.cloud.frontier
        tokens: list[int] = []
        while node is not None and len(tokens) < VOCAB_SIZE:
            likely = [*node.children, self.coins.randrange(VOCAB_SIZE)]
            tokens.append(self.coins.choice(likely))
            node = node.children.get(tokens[-1])
        accepted = sum(c.node_id is not None for c in self.cloud.commit(start, tokens))
        self.credit = self.coins.randint(0, self.limit)
        price = self.coins.choice([0.0, 0.0, 0.02, 0.1, 0.3, 0.6])
        commit = Commit(
            start,
            tuple(tokens),
            min(accepted, len(tokens)),
            num_rows=1,
            pass_us=self.coins.choice([1_000, 50_000]),
            credit=self.credit,
            price=price,
        )
        self.edge.receive(commit)


def parents_with_draws(tree: SpeculationTree) -> list[TreeNode]:
    return [node for node in (tree.frontier, *tree.nodes()) if node.draft is not None]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 10**9), limit=st.integers(1, 12))
def test_whatever_happens_no_draw_reaches_the_verifier_without_those_before_it(
    seed: int, limit: int
) -> None:
    history = DrawHistory(seed, limit)
    for _ in range(200):
        history.step()
        for tree in (history.cloud, history.edge.tree):
            for parent in parents_with_draws(tree):
                assert parent.draft is not None
                drawn = history.drawn[parent.draft]
                by_id = sorted(parent.children.values(), key=lambda child: child.ids[0])
                assert tuple(child.token for child in by_id) == drawn[: len(by_id)]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**9), limit=st.integers(1, 12))
def test_whatever_happens_no_node_is_made_without_room_for_it(seed: int, limit: int) -> None:
    history = DrawHistory(seed, limit)
    for _ in range(200):
        last_id = history.edge.tree.last_id
        history.step()
        assert history.edge.tree.num_outstanding <= limit
        if history.edge.tree.last_id > last_id:
            assert history.edge.tree.num_outstanding <= history.credit


def test_in_such_histories_later_draws_are_sent_some_at_once_and_some_later() -> None:
    num_at_once = num_later = 0
    for seed in range(40):
        history = DrawHistory(seed, limit=12)
        for _ in range(200):
            known = {parent.draft for parent in parents_with_draws(history.edge.tree)}
            before = history.edge.tree.last_id
            history.step()
            for parent in parents_with_draws(history.edge.tree):
                new = [c for c in parent.children.values() if c.ids[0] > before]
                num_later += len(new) if parent.draft in known else 0
                num_at_once += len(new) > 1
    assert num_at_once > 10
    assert num_later > 10
