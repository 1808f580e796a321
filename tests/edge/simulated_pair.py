"""An edge's session, a drafter, a network and a verifier in simulated time: repeatable."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from outrider_common.messages import Commit
from outrider_common.tree import SpeculationTree, TreeNode
from outrider_edge.estimators import Estimators
from outrider_edge.policies import AUTO, DraftingPolicy
from outrider_edge.proposer import Draft
from outrider_edge.session import DraftRun, EdgeSession

VOCAB_SIZE = 1000


@dataclass(frozen=True, slots=True)
class World:
    """How fast and how good everything is. A pass takes `pass_s + row_s * rows`.

    Attributes:
        acceptance: the chance that a guess is right, by the drafter's own probability.
        own_probability: draws the drafter's own probability for a position.
        is_better_from: the position from which on every guess is right.
    """

    draft_s: float = 0.01
    round_trip_s: float = 0.02
    pass_s: float = 0.05
    row_s: float = 0.0
    acceptance: Callable[[float], float] = lambda p: p
    own_probability: Callable[[random.Random], float] = lambda coins: coins.random() ** 0.3
    leaf_share: float = 0.3
    credit: int | None = None
    price: float = 0.0
    is_better_from: int = 10**9


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    num_calls: int = 0
    num_sent: int = 0
    num_messages: int = 0
    num_accepted: int = 0
    num_passes: int = 0
    seconds: float = 0.0
    asked_at: list[int] = field(default_factory=list)  # committed positions


class SimulatedPair:
    """Runs one generation; events in the order of their times.

    Args:
        make_session: makes the edge's session around a clock.
        estimators: those of the session, to be told how long drafting takes.
    """

    def __init__(
        self,
        world: World,
        make_session: Callable[[Callable[[], float]], EdgeSession],
        estimators: Estimators,
        num_tokens: int = 400,
        seed: int = 0,
    ) -> None:
        self.world = world
        self.now = 0.0
        self.coins = random.Random(seed)
        self.text = [self.coins.randrange(VOCAB_SIZE) for _ in range(num_tokens + 1)]
        self.own = [world.own_probability(self.coins) for _ in self.text]
        self.is_right = [self.coins.random() < world.acceptance(own) for own in self.own]
        self.edge = make_session(lambda: self.now)
        self.estimators = estimators
        self.cloud = SpeculationTree(self.text[:1])
        self.outcome = Outcome()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.is_drafting = False

    def run(self) -> Outcome:
        """All tokens."""
        self.estimators.opened(self.world.round_trip_s)
        self.begin_pass()
        self.ask()
        while self.edge.tree.num_committed < len(self.text):
            self.now, _, happen = heapq.heappop(self.events)
            happen()
        self.outcome.seconds = self.now
        return self.outcome

    def after(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), happen))

    # --- the edge -----------------------------------------------------------------------------

    def ask(self) -> None:
        run = None if self.is_drafting else self.edge.next_run()
        if run is not None:
            self.is_drafting = True
            self.outcome.num_calls += 1
            self.outcome.asked_at.append(self.edge.tree.num_committed)
            share = self.world.leaf_share * (len(run.points) - 1)
            seconds = self.world.draft_s * (1 + share)
            self.after(seconds, lambda: self.answer(run, seconds))
        self.send()

    def answer(self, run: DraftRun, seconds: float) -> None:
        self.is_drafting = False
        self.estimators.drafted(seconds, len(run.points), 1)
        drafts = [self.guess([*run.text, *path]) for path in run.paths]
        self.edge.add(run, drafts, "simulated")
        self.ask()

    def send(self) -> None:
        nodes = self.edge.take_unsent()
        self.outcome.num_sent += len(nodes)
        self.outcome.num_messages += bool(nodes)
        self.after(self.world.round_trip_s / 2, lambda: self.cloud.extend(nodes))

    def guess(self, context: list[int]) -> Draft:
        position = len(context)
        on_track = context == self.text[:position]
        is_right = self.is_right[position] or position >= self.world.is_better_from
        token = self.text[position] if on_track and is_right else VOCAB_SIZE
        return Draft.chain([token], [self.own[position]])

    def hear(self, commit: Commit) -> None:
        self.edge.receive(commit)
        self.ask()

    # --- the verifier -------------------------------------------------------------------------

    def begin_pass(self) -> None:
        if self.cloud.num_committed < len(self.text):
            nodes = set(self.cloud.nodes())
            began = self.now
            seconds = self.world.pass_s + self.world.row_s * (1 + len(nodes))
            self.after(seconds, lambda: self.end_pass(nodes, began))

    def end_pass(self, nodes: set[TreeNode], began: float) -> None:
        commit = self.walk(nodes, began)
        self.cloud.commit(commit.start, commit.tokens)
        self.outcome.num_passes += 1
        self.outcome.num_accepted += commit.num_accepted
        self.after(self.world.round_trip_s / 2, lambda: self.hear(commit))
        self.begin_pass()

    def walk(self, nodes: set[TreeNode], began: float) -> Commit:
        start, node, tokens = self.cloud.num_committed, self.cloud.frontier, []
        num_accepted, had_children = 0, False
        for token in self.text[start:]:
            tokens.append(token)
            children = {child.token: child for child in node.children.values() if child in nodes}
            had_children = bool(children)
            if token not in children:
                break
            node = children[token]
            num_accepted += 1
        return Commit(
            start,
            tuple(tokens),
            num_accepted,
            is_correction=had_children and num_accepted < len(tokens),
            pass_us=int((self.now - began) * 1e6),
            num_rows=1 + len(nodes),
            credit=self.world.credit,
            price=self.world.price,
        )


def played(
    world: World,
    num_tokens: int = 400,
    seed: int = 0,
    max_depth: int = 12,
    policy: DraftingPolicy = AUTO,
) -> Outcome:
    """What comes of one generation with fresh estimates."""
    return a_pair(world, num_tokens, seed, max_depth, policy).run()


def a_pair(
    world: World,
    num_tokens: int = 400,
    seed: int = 0,
    max_depth: int = 12,
    policy: DraftingPolicy = AUTO,
) -> SimulatedPair:
    """A pair with fresh estimates."""
    estimators = Estimators()

    def make(clock: Callable[[], float]) -> EdgeSession:
        return EdgeSession(
            pair_text_start(seed),
            max_outstanding_nodes=64,
            max_depth=max_depth,
            max_length=num_tokens + 1,
            estimators=estimators,
            policy=policy,
            clock=clock,
        )

    return SimulatedPair(world, make, estimators, num_tokens, seed)


def pair_text_start(seed: int) -> tuple[int, ...]:
    """The prompt: the first token of the text."""
    return (random.Random(seed).randrange(VOCAB_SIZE),)
