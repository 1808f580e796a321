"""The edge's session: where it drafts, what it sends, and what it makes of commits."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_pair import World, a_pair, played

from outrider_common.acceptance import SparseDistribution
from outrider_common.errors import ProtocolViolationError
from outrider_common.messages import Commit
from outrider_common.records import TokenOrigin
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree
from outrider_edge import waiting as waiting_module
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.estimators import Estimators
from outrider_edge.policies import POLICIES
from outrider_edge.probing import FIRST_REST
from outrider_edge.proposer import CONTEXT_END, Draft
from outrider_edge.session import DraftPoint, DraftRun, EdgeSession


def a_session(prefix: tuple[int, ...] = (1, 2), **changes: int) -> EdgeSession:
    limits = {"max_outstanding_nodes": 8, "max_depth": 4, "max_length": 100} | changes
    return EdgeSession(prefix, **limits, clock=lambda: 0.0)


def run_of(session: EdgeSession) -> DraftRun:
    found = session.next_run()
    assert found is not None
    return found


def path(session: EdgeSession) -> tuple[int, ...]:
    """All that precedes the next guess, at the best leaf."""
    run = run_of(session)
    return (*run.text, *run.points[0].path)


def add(session: EdgeSession, run: DraftRun, *drafts: Draft) -> int:
    """Give drafts to a session and count the nodes that it makes of them."""
    before = session.tree.last_id
    session.add(run, drafts, "lm")
    return session.tree.last_id - before


def guess(session: EdgeSession, *drafts: Draft) -> int:
    """Draft from where the session wants to; the number of new nodes."""
    return add(session, run_of(session), *drafts)


def test_drafting_begins_at_the_end_of_the_prompt() -> None:
    run = run_of(a_session())
    assert tuple(run.text) == (1, 2)
    assert run.points == (DraftPoint(path=(), node_id=None, position=1),)
    assert (run.max_depth, run.is_probe) == (4, False)


def test_drafting_goes_on_from_the_likeliest_leaf() -> None:
    session = a_session()
    draft = Draft((10, 20, 21), (CONTEXT_END, CONTEXT_END, 1), (0.5, 0.6, 0.7))
    assert guess(session, draft) == 3
    assert path(session) == (1, 2, 10)  # 0.5 is more than 0.6 * 0.7


def test_a_leaf_at_which_the_proposer_is_silent_is_not_asked_again() -> None:
    session = a_session()
    guess(session, Draft())
    assert session.next_run() is None
    session.receive(Commit(2, (7,), 0, num_rows=1))
    assert path(session) == (1, 2, 7)


def test_drafting_stops_at_the_greatest_depth_and_goes_on_after_a_commit() -> None:
    session = a_session(max_depth=2)
    assert guess(session, Draft.chain([10, 11, 12], [1, 1, 1])) == 2
    assert session.next_run() is None
    session.receive(Commit(2, (10, 11), 2, num_rows=3))
    assert [node.token for node in session.take_unsent()] == [12]
    assert path(session) == (1, 2, 10, 11, 12)


def test_drafting_keeps_to_the_credit_that_a_commit_gives() -> None:
    session = a_session()
    star = Draft((10, 11, 12), (CONTEXT_END,) * 3, (0.3,) * 3)
    session.receive(Commit(2, (7,), 0, credit=2))
    assert guess(session, star) == 2
    assert session.next_run() is None
    session.receive(Commit(3, (8,), 0, credit=0))
    assert session.next_run() is None
    session.receive(Commit(4, (9,), 0, credit=1000))
    assert guess(session, star) == 3


def test_a_commit_that_says_nothing_of_credit_leaves_it_as_it_was() -> None:
    session = a_session()
    session.receive(Commit(2, (7,), 0, credit=1))
    session.receive(Commit(3, (7,), 0))
    assert guess(session, Draft.chain([10, 11], [1, 1])) == 1


def test_guesses_below_the_price_are_not_sent_nor_what_hangs_from_them() -> None:
    session = a_session()
    session.receive(Commit(2, (7,), 0, price=0.5))
    draft = Draft((10, 11, 12), (CONTEXT_END, 0, CONTEXT_END), (0.4, 1.0, 0.6))
    assert guess(session, draft) == 1
    assert [node.token for node in session.take_unsent()] == [12]


def test_a_leaf_whose_guesses_are_all_below_the_price_is_not_asked_again() -> None:
    session = a_session()
    session.receive(Commit(2, (7,), 0, price=0.5))
    assert guess(session, Draft.chain([10], [0.4])) == 0
    assert session.next_run() is None
    session.receive(Commit(3, (8,), 0, price=0.1))
    assert guess(session, Draft.chain([10], [0.4])) == 1


def test_a_leaf_that_is_below_the_price_itself_is_not_drafted_from() -> None:
    session = a_session()
    assert guess(session, Draft.chain([10, 11], [0.6, 0.6])) == 2
    session.receive(Commit(2, (10,), 1, price=0.7))
    assert session.next_run() is None


def test_what_is_committed_already_no_longer_lowers_the_value_of_what_follows() -> None:
    session = a_session()
    assert guess(session, Draft.chain([10, 11], [0.6, 0.6])) == 2
    session.receive(Commit(2, (10,), 1, price=0.5))
    assert path(session) == (1, 2, 10, 11)


def test_drafting_never_exceeds_the_verifiers_limit() -> None:
    session = a_session(max_outstanding_nodes=3)
    star = Draft((10, 11, 12, 13), (CONTEXT_END,) * 4, (0.1,) * 4)
    assert guess(session, star) == 3
    assert session.next_run() is None


def test_the_last_position_of_the_text_is_left_to_the_verifier() -> None:
    session = a_session(max_length=4)
    guess(session, Draft.chain([10, 11], [1, 1]))
    assert session.tree.num_outstanding == 1
    assert session.next_run() is None


def test_new_nodes_are_sent_once_with_rising_ids() -> None:
    session = a_session()
    guess(session, Draft.chain([10, 11], [1, 1]))
    assert session.take_unsent() == [
        DraftNode(1, 10, AtPosition(1)),
        DraftNode(2, 11, AtNode(1)),
    ]
    assert session.take_unsent() == []


def test_overtaken_nodes_are_not_sent_and_their_children_still_make_sense() -> None:
    session = a_session()
    guess(session, Draft.chain([10, 11], [1, 1]))
    session.receive(Commit(2, (10,), 0, num_rows=1))
    assert session.take_unsent() == [DraftNode(2, 11, AtPosition(2))]


def test_a_draft_made_while_a_commit_confirmed_its_beginning_goes_on_behind_it() -> None:
    session = a_session()
    asked = run_of(session)
    session.receive(Commit(2, (10,), 0, num_rows=1))
    assert add(session, asked, Draft.chain([10, 11], [1, 1])) == 1
    assert session.take_unsent() == [DraftNode(1, 11, AtPosition(2))]


def test_a_draft_made_while_a_commit_refuted_its_beginning_is_dropped() -> None:
    session = a_session()
    asked = run_of(session)
    session.receive(Commit(2, (99,), 0, num_rows=1))
    assert add(session, asked, Draft.chain([10, 11], [1, 1])) == 0
    assert session.take_unsent() == []


def test_a_draft_below_a_pruned_node_is_dropped() -> None:
    session = a_session()
    guess(session, Draft.chain([10], [1]))
    asked = run_of(session)
    session.receive(Commit(2, (99,), 0, is_correction=True, num_rows=2))
    assert add(session, asked, Draft.chain([11], [1])) == 0


def test_a_guess_that_is_there_already_is_not_sent_twice() -> None:
    session = a_session()
    asked = run_of(session)
    assert add(session, asked, Draft.chain([10], [1])) == 1
    assert add(session, asked, Draft.chain([10, 11], [1, 1])) == 1
    assert [node.token for node in session.take_unsent()] == [10, 11]


def test_records_say_where_each_token_came_from() -> None:
    session = a_session()
    guess(session, Draft.chain([10, 11], [0.5, 0.5]))
    first = session.receive(Commit(2, (10, 99), 1, is_correction=True, num_rows=3))
    second = session.receive(Commit(4, (5,), 0, num_rows=1))
    origins = [record.origin for record in (*first, *second)]
    assert origins == [TokenOrigin.DRAFTED, TokenOrigin.CORRECTED, TokenOrigin.HEDGED]
    assert [record.position for record in (*first, *second)] == [2, 3, 4]
    assert [record.proposer for record in first] == ["lm", None]
    assert [record.pass_index for record in (*first, *second)] == [0, 0, 1]


def test_what_the_verifier_guessed_stands_between_drafts_and_its_choice() -> None:
    session = a_session()
    guess(session, Draft.chain([10, 11], [0.5, 0.5]))
    records = session.receive(Commit(2, (10, 7, 8, 9), 1, num_guessed=2, num_rows=5))
    guessed = TokenOrigin.GUESSED
    assert [record.origin for record in records] == [
        TokenOrigin.DRAFTED,
        guessed,
        guessed,
        TokenOrigin.HEDGED,
    ]
    assert [record.proposer for record in records] == ["lm", None, None, None]
    last = session.receive(Commit(6, (5,), 0, num_guessed=1, num_rows=2))
    assert [record.origin for record in last] == [guessed]


def test_a_verifier_that_commits_more_than_was_asked_for_is_refused() -> None:
    session = a_session(max_length=4)
    session.receive(Commit(2, (7,), 0))
    with pytest.raises(ProtocolViolationError, match="committed 5 tokens, prompt included, but 4"):
        session.receive(Commit(3, (8, 9), 0))


def test_a_commit_that_contradicts_the_text_is_refused() -> None:
    session = a_session()
    with pytest.raises(ProtocolViolationError):
        session.receive(Commit(1, (3,), 0))


class History:
    """A session, its verifier and the network between them, driven at random."""

    def __init__(self, seed: int, max_outstanding: int, max_depth: int) -> None:
        self.random = random.Random(seed)
        self.limit = max_outstanding
        self.text = [0, *(self.random.randrange(3) for _ in range(60))]
        self.edge = a_session(
            (0,), max_outstanding_nodes=max_outstanding, max_depth=max_depth, max_length=60
        )
        self.cloud = SpeculationTree((0,))
        self.up: deque[list[DraftNode]] = deque()
        self.down: deque[Commit] = deque()
        self.asked: DraftRun | None = None

    def step(self) -> None:
        self.random.choice(
            [self.ask, self.answer, self.send, self.arrive, self.verify, self.hear]
        )()

    def ask(self) -> None:
        if self.asked is None:
            self.asked = self.edge.next_run()

    def answer(self) -> None:
        """The proposer comes back, perhaps long after it was asked."""
        if self.asked is None:
            return
        length = self.random.randrange(5)
        parents = [self.random.randrange(-1, i) for i in range(length)]
        tokens = [self.random.randrange(3) for _ in range(length)]
        draft = Draft(tuple(tokens), tuple(parents), (0.5,) * length)
        self.edge.add(self.asked, [draft] * len(self.asked.points), "random")
        self.asked = None

    def send(self) -> None:
        if nodes := self.edge.take_unsent():
            self.up.append(nodes)

    def arrive(self) -> None:
        if self.up:
            nodes = self.up.popleft()
            assert self.cloud.num_outstanding + len(nodes) <= self.limit
            self.cloud.extend(nodes)

    def verify(self) -> None:
        start = self.cloud.num_committed
        if start >= 59:
            return
        node = self.cloud.frontier
        tokens: list[int] = []
        while start + len(tokens) < 59:
            token = self.text[start + len(tokens)]
            tokens.append(token)
            child = node.children.get(token)
            if child is None:
                break
            node = child
        accepted = sum(c.node_id is not None for c in self.cloud.commit(start, tokens))
        self.down.append(Commit(start, tuple(tokens), accepted, num_rows=1))

    def hear(self) -> None:
        if self.down:
            self.edge.receive(self.down.popleft())


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    max_outstanding=st.integers(1, 9),
    max_depth=st.integers(1, 6),
)
def test_in_any_history_the_text_is_the_targets_and_the_limits_hold(
    seed: int, max_outstanding: int, max_depth: int
) -> None:
    history = History(seed, max_outstanding, max_depth)
    for _ in range(300):
        history.step()
        tree = history.edge.tree
        assert list(tree.tokens) == history.text[: tree.num_committed]
        assert tree.num_outstanding <= max_outstanding
        for node in tree.nodes():
            assert node.position - tree.frontier.position <= max_depth
        for node in history.cloud.nodes():  # every node that arrived means the same on both sides
            twin = tree.find(node.ids[0])
            assert twin is not None
            assert twin.token == node.token
            assert twin.position == node.position


# --- what is learnt -------------------------------------------------------------------------------

SURE = GuessKind("lm", rank=0, depth=1)


class Told(Calibration):
    """Remembers the fates that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[tuple[GuessKind, float, bool]] = []

    def observe(self, kind: GuessKind, probability: float, is_committed: bool) -> None:
        self.fates.append((kind, probability, is_committed))
        super().observe(kind, probability, is_committed)


def a_told_session(**changes: Any) -> tuple[EdgeSession, Told]:
    told = Told()
    limits = {"max_outstanding_nodes": 8, "max_depth": 4, "max_length": 100, "clock": lambda: 0.0}
    return EdgeSession((1, 2), calibration=told, **(limits | changes)), told


def test_calibration_learns_the_fates_of_guesses_whose_parents_were_committed() -> None:
    session, told = a_told_session(regime="greedy")
    draft = Draft((10, 11, 20, 21), (CONTEXT_END, 0, CONTEXT_END, 2), (0.9, 0.8, 0.3, 0.2))
    guess(session, draft)
    session.receive(Commit(2, (10,), 1, num_rows=5))
    first, second = GuessKind("lm", 0, 1, "greedy"), GuessKind("lm", 1, 1, "greedy")
    assert told.fates == [(first, 0.9, True), (second, 0.3, False)]
    session.receive(Commit(3, (99,), 0, is_correction=True, num_rows=2))
    assert told.fates[2:] == [(GuessKind("lm", 0, 2, "greedy"), 0.8, False)]


def test_what_hangs_from_a_refuted_guess_says_nothing() -> None:
    session, told = a_told_session()
    guess(session, Draft.chain([10, 11, 12], [0.9, 0.9, 0.9]))
    session.receive(Commit(2, (99, 98), 0, is_correction=True, num_rows=4))
    assert [is_committed for _, _, is_committed in told.fates] == [False]


def test_a_guess_that_was_overtaken_while_it_was_made_is_judged_at_once() -> None:
    session, told = a_told_session()
    asked = run_of(session)
    session.receive(Commit(2, (10, 99), 0, num_rows=1))
    add(session, asked, Draft.chain([10, 11, 12], [0.9, 0.8, 0.7]))
    assert [(p, is_committed) for _, p, is_committed in told.fates] == [(0.9, True), (0.8, False)]


def test_a_commit_that_is_refused_teaches_nothing() -> None:
    session, told = a_told_session()
    guess(session, Draft.chain([10], [0.9]))
    with pytest.raises(ProtocolViolationError):
        session.receive(Commit(1, (3, 10), 0))
    with pytest.raises(ProtocolViolationError):
        session.receive(Commit(9, (10,), 0))
    assert told.fates == []


def test_a_draw_is_calibrated_like_its_siblings_so_that_none_is_sent_without_those_before() -> None:
    session, told = a_told_session()
    source = SparseDistribution((10, 20), (1, 1))
    draft = Draft((10, 20), (CONTEXT_END,) * 2, (0.6, 0.3), drawn_from=(source, source))
    guess(session, draft)
    session.receive(Commit(2, (20,), 1, num_rows=3))
    assert {kind.rank for kind, _, _ in told.fates} == {0}


def test_guesses_of_a_kind_that_was_always_wrong_are_no_longer_sent_at_a_price() -> None:
    calibration = Calibration()
    for _ in range(200):
        calibration.observe(SURE, 0.9, False)
    session, _ = a_told_session()
    wary = EdgeSession(
        (1, 2), max_outstanding_nodes=8, max_depth=4, max_length=100, calibration=calibration
    )
    for each, expected in ((session, 1), (wary, 0)):
        each.receive(Commit(2, (7,), 0, price=0.5))
        assert guess(each, Draft.chain([10], [0.9])) == expected


def test_the_pace_is_learnt_from_commits() -> None:
    now = 0.0
    estimators = Estimators()
    session, _ = a_told_session(estimators=estimators, clock=lambda: now)
    session.receive(Commit(2, (7,), 0, num_rows=1, pass_us=900_000))
    now = 0.02
    guess(session, Draft.chain([10], [0.9]))
    now = 0.06
    session.receive(Commit(3, (8,), 0, num_rows=1, pass_us=50_000, queue_us=10_000))
    now = 0.12
    session.receive(Commit(4, (), 0, num_rows=0, pass_us=10**9))
    estimates = estimators.estimates()
    assert estimates.interval_s == 0.06
    assert estimates.queue_s == pytest.approx(0.005, abs=0.006)
    assert estimates.acceptance == 0


def test_the_round_trip_is_learnt_from_the_passes_around_a_node() -> None:
    now = 0.0
    estimators = Estimators()
    session, _ = a_told_session(estimators=estimators, clock=lambda: now)
    now = 1.0
    session.receive(Commit(2, (7,), 0, num_rows=1, pass_us=100_000))  # began at 0.9
    guess(session, Draft.chain([10], [0.9]))
    session.take_unsent()
    now = 1.3
    session.receive(Commit(3, (10,), 1, num_rows=2, pass_us=100_000))  # began at 1.2
    assert estimators.estimates().round_trip_s == pytest.approx(0.05)


GOOD = World(draft_s=0.013, round_trip_s=0.02, pass_s=0.027, row_s=0.005, price=0.15)

# --- fewer messages -------------------------------------------------------------------------------


def a_paced_session(clock: Callable[[], float], **changes: Any) -> EdgeSession:
    """Its verifier begins a pass every 0.1 s; the drafter takes 0.02 s, and all else nothing."""
    estimators = Estimators()
    estimators.opened(0.0)
    estimators.waited(0.1)
    estimators.drafted(0.02, 1, 1)
    session = EdgeSession(
        (1, 2),
        max_outstanding_nodes=8,
        max_depth=4,
        max_length=100,
        estimators=estimators,
        clock=clock,
        **changes,
    )
    session.receive(Commit(2, (7,), 0, num_rows=1, pass_us=100_000))
    return session


def test_nodes_wait_for_those_that_are_being_drafted_if_they_make_the_next_pass() -> None:
    now = 0.001
    session = a_paced_session(lambda: now)
    sent = []
    for _ in range(4):
        run = run_of(session)
        sent.append(len(session.take_unsent()))
        now += 0.02
        add(session, run, Draft.chain([10], [0.95]))
    assert sent == [0, 0, 0, 3]  # at 0.06: the next run may take until 0.085, which is near 0.1


def test_nodes_do_not_wait_for_a_run_that_takes_longer_than_usual() -> None:
    now = 0.0
    session = a_paced_session(lambda: now)
    now = 0.03
    guess(session, Draft.chain([10], [0.95]))
    run_of(session)
    assert not session.has_unsent
    assert session.patience_s == pytest.approx(0.025)
    now += 0.026
    assert session.patience_s == 0
    assert session.has_unsent


def test_nodes_do_not_wait_when_nothing_more_is_drafted() -> None:
    session = a_paced_session(lambda: 0.0, policy=POLICIES["chain"])
    guess(session, Draft.chain([10, 11, 12, 13], [0.95] * 4))
    assert session.next_run() is None
    assert len(session.take_unsent()) == 4


@pytest.mark.parametrize("name", ["one-ahead", "stop-and-wait"])
def test_a_block_goes_when_it_is_whole(name: str) -> None:
    session = a_paced_session(lambda: 0.03, policy=POLICIES[name].with_block(2))
    guess(session, Draft.chain([10], [0.95]))
    assert session.take_unsent() == []
    guess(session, Draft.chain([11], [0.95]))
    session.next_run()
    assert len(session.take_unsent()) == 2


@pytest.mark.parametrize("round_trip_s", [0.001, 0.05])
@pytest.mark.parametrize("policy", ["auto", "chain"])
def test_waiting_saves_messages_and_no_pass_is_missed(
    monkeypatch: pytest.MonkeyPatch, round_trip_s: float, policy: str
) -> None:
    world = replace(GOOD, round_trip_s=round_trip_s, own_probability=lambda _: 0.97, pass_s=0.04)
    waiting = played(world, policy=POLICIES[policy])
    monkeypatch.setattr(waiting_module, "MESSAGE_WORTH", 0.0)
    hasty = played(world, policy=POLICIES[policy])
    assert waiting.num_messages < 0.9 * hasty.num_messages
    assert waiting.num_passes <= hasty.num_passes * 1.01
    assert waiting.seconds <= hasty.seconds * 1.01


# --- never a loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [
        replace(GOOD, draft_s=0.1),  # slower than the verifier
        replace(GOOD, acceptance=lambda _: 0.03),  # sure of itself, and wrong
        replace(GOOD, round_trip_s=2.0),  # too far away
        replace(GOOD, price=0.999),  # the verifier is too busy
    ],
)
def test_an_edge_whose_drafts_do_not_pay_rests_and_costs_the_answer_nothing(world: World) -> None:
    pair = a_pair(world, num_tokens=1000)
    outcome = pair.run()
    asked_late = [position for position in outcome.asked_at if position > 400]
    assert len(asked_late) <= 600 * 0.05
    assert pair.edge.num_rests >= 1
    assert pair.edge.num_probes >= 2
    alone_s = 1000 * (world.pass_s + world.row_s) + world.round_trip_s
    assert outcome.seconds <= alone_s * 1.02


def test_an_edge_that_rests_finds_out_when_its_drafts_begin_to_pay() -> None:
    world = replace(GOOD, acceptance=lambda _: 0.0, is_better_from=300)
    outcome = played(world, num_tokens=1500)
    assert outcome.num_accepted > 300


def test_an_edge_whose_drafts_pay_never_rests() -> None:
    pair = a_pair(replace(GOOD, acceptance=lambda _: 0.97))
    outcome = pair.run()
    assert pair.edge.num_rests == pair.edge.num_probes == 0
    assert outcome.seconds < 400 * (GOOD.pass_s + GOOD.row_s) / 1.8


def test_credits_of_zero_are_obeyed_in_silence() -> None:
    outcome = played(replace(GOOD, credit=0))
    assert outcome.num_accepted <= 12  # what was sent before the first commit
    assert [position for position in outcome.asked_at if position > 1] == []
    assert outcome.num_passes >= 388


def test_a_probe_is_sent_whatever_it_is_worth() -> None:
    session = a_session(max_length=400)
    session.receive(Commit(2, (7,), 0, price=1.0))
    assert session.next_run() is None
    for i in range(FIRST_REST):
        session.receive(Commit(3 + i, (7,), 0, price=1.0))
    probe = run_of(session)
    assert probe.is_probe
    assert add(session, probe, Draft.chain([10], [0.1])) == 1
    assert (session.num_rests, session.num_probes) == (1, 1)


def test_drafts_that_make_passes_longer_than_they_gain_are_found_out_by_measuring() -> None:
    """Every node makes a pass longer by three fifths, and no price says so."""
    world = World(
        draft_s=0.002,
        round_trip_s=0.002,
        pass_s=0.02,
        row_s=0.012,
        acceptance=lambda _: 0.4,
        own_probability=lambda _: 0.4,
    )
    num_tokens = 1200
    alone_s = num_tokens * (world.pass_s + world.row_s)
    pair = a_pair(world, num_tokens, policy=POLICIES["tree"])
    tree = pair.run()
    auto = played(world, num_tokens)
    assert pair.edge.num_rests == 0  # a fixed policy compares nothing
    assert tree.seconds > 1.5 * alone_s
    assert auto.seconds < 1.06 * alone_s


@pytest.mark.parametrize(("policy", "drafts"), [("auto", False), ("tree", True), ("chain", True)])
def test_what_one_session_has_shown_of_drafting_holds_for_the_next_if_it_adapts(
    policy: str, drafts: bool
) -> None:
    estimators = Estimators()
    pay_off = estimators.pay_off("greedy")
    while not pay_off.is_resting:
        pay_off.saw(1, 0.02)
    session = EdgeSession(
        (1, 2),
        max_outstanding_nodes=8,
        max_depth=4,
        max_length=100,
        regime="greedy",
        policy=POLICIES[policy],
        estimators=estimators,
    )
    session.receive(Commit(2, (7,), 0, num_rows=1, pass_us=20_000))
    assert (session.next_run() is not None) == drafts
