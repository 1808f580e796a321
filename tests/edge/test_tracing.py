"""The recorder of a generation: fates and times, in any history, and beside a real generation."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_link import FakeLink
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_pair import World, a_pair
from test_generation import ANSWER, Oracle, generate
from test_session_histories import DrawHistory

from outrider_common.generation_trace import (
    DraftSpan,
    GenerationTrace,
    NodeFate,
    NodeTrace,
    PassTrace,
    trace_from_json,
)
from outrider_common.messages import Commit
from outrider_common.records import TokenRecord
from outrider_common.tree import AtNode, AtPosition, DraftNode, TreeNode
from outrider_edge.calibration import GuessKind
from outrider_edge.guess_tree import Hung
from outrider_edge.guesses import Guess
from outrider_edge.session import DraftRun, EdgeSession
from outrider_edge.tracing import SessionOpened, TraceEvent, TraceRecorder


def tell(session: EdgeSession, clock: Callable[[], float], *recorders: TraceRecorder) -> None:
    """Tell recorders what this session sends and receives."""
    take_unsent, receive = session.take_unsent, session.receive

    def taking() -> list[DraftNode]:
        nodes = take_unsent()
        for recorder in recorders if nodes else ():
            recorder.sent(nodes, [session.hung(node.node_id) for node in nodes], clock())
        return nodes

    def receiving(commit: Commit) -> list[TokenRecord]:
        records = receive(commit)
        for recorder in recorders:
            recorder.committed(commit, len(records), clock())
        return records

    session.take_unsent, session.receive = taking, receiving


class WatchedPair:
    """A simulated generation, its trace, and the ids of the nodes that passes accepted."""

    def __init__(self, world: World, seed: int) -> None:
        pair = a_pair(world, num_tokens=60, seed=seed)
        self.recorder = TraceRecorder()
        tell(pair.edge, lambda: pair.now, self.recorder)
        self.accepted: set[int | None] = set()
        walk = pair.walk

        def walking(nodes: set[TreeNode], began: float) -> Commit:
            commit = walk(nodes, began)
            node = pair.cloud.frontier
            for token in commit.tokens[: commit.num_accepted]:
                node = node.children[token]
                self.accepted.add(node.ids[0])
            return commit

        answer = pair.answer

        def answering(run: DraftRun, seconds: float) -> None:
            num_leaves = len(run.points)
            self.recorder.drafted(pair.now - seconds, pair.now, num_leaves, num_leaves)
            answer(run, seconds)

        pair.walk, pair.answer = walking, answering
        pair.run()


worlds = st.builds(
    World,
    draft_s=st.sampled_from([0.004, 0.01, 0.03]),
    round_trip_s=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    pass_s=st.sampled_from([0.03, 0.06]),
    acceptance=st.sampled_from([lambda _p: 1.0, lambda p: p, lambda _p: 0.5]),
)


def assert_sound(trace: GenerationTrace) -> None:
    """What holds of every trace: one entry for each node that was sent, and times in order."""
    ids = [node.node_id for node in trace.nodes]
    assert ids == sorted(set(ids))
    assert sorted(i for message in trace.messages for i in message.node_ids) == ids
    sent_at_s = {i: message.sent_at_s for message in trace.messages for i in message.node_ids}
    for node in trace.nodes:
        assert node.drafted_at_s <= node.sent_at_s == sent_at_s[node.node_id]
        assert node.decided_at_s is None or node.sent_at_s <= node.decided_at_s
        assert node.decided_at_s is not None or node.fate is NodeFate.UNJUDGED
    for times in (
        [message.sent_at_s for message in trace.messages],
        [commit.arrived_at_s for commit in trace.passes],
    ):
        assert times == sorted(times)


def committed_text(trace: GenerationTrace) -> dict[int, int]:
    return {
        commit.start + offset: token
        for commit in trace.passes
        for offset, token in enumerate(commit.tokens)
    }


@settings(max_examples=60, deadline=None)
@given(world=worlds, seed=st.integers(0, 10**6))
def test_every_node_that_was_sent_has_one_fate_and_the_committed_are_those_that_passes_accepted(
    world: World, seed: int
) -> None:
    pair = WatchedPair(world, seed)
    trace = pair.recorder.trace(round_trip_s=world.round_trip_s)
    assert_sound(trace)
    fates = {node.node_id: node.fate for node in trace.nodes}
    assert {i for i, fate in fates.items() if fate is NodeFate.COMMITTED} == pair.accepted
    text = committed_text(trace)
    for node in trace.nodes:
        if node.fate is NodeFate.REJECTED:
            assert text[node.position] != node.token


@settings(max_examples=60, deadline=None)
@given(world=worlds, seed=st.integers(0, 10**6), error=st.sampled_from([0.5, 1.0, 3.0]))
def test_a_committed_node_arrives_before_its_pass_begins_however_wrong_the_estimate_of_the_link_is(
    world: World, seed: int, error: float
) -> None:
    pair = WatchedPair(world, seed)
    trace = pair.recorder.trace(round_trip_s=world.round_trip_s * error)
    passes = {commit.arrived_at_s: commit for commit in trace.passes}
    for node in trace.nodes:
        if node.fate is NodeFate.COMMITTED and node.decided_at_s is not None:
            began_s = trace.pass_began_s(passes[node.decided_at_s])
            assert node.sent_at_s + trace.one_way_s <= began_s + 1e-9
    for commit in trace.passes:
        assert 0 <= trace.queue_began_s(commit) <= trace.pass_began_s(commit)
        assert trace.pass_began_s(commit) <= trace.pass_ended_s(commit) <= commit.arrived_at_s


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**9), limit=st.integers(1, 12))
def test_branches_have_one_fate_each_and_what_hangs_from_wrong_ones_is_never_judged(
    seed: int, limit: int
) -> None:
    history = DrawHistory(seed, limit)
    recorder = TraceRecorder()
    tell(history.edge, lambda: history.now, recorder)
    for _ in range(150):
        history.step()
    trace = recorder.trace(round_trip_s=None)
    assert_sound(trace)
    text, nodes = committed_text(trace), {node.node_id: node for node in trace.nodes}

    def is_on_text(node: NodeTrace) -> bool:
        parent = nodes.get(node.parent_id) if node.parent_id is not None else None
        return text.get(node.position) == node.token and (parent is None or is_on_text(parent))

    for node in trace.nodes:
        parent = nodes.get(node.parent_id) if node.parent_id is not None else None
        hangs_from_text = parent is None or is_on_text(parent)
        is_decided = node.position in text and hangs_from_text
        assert is_decided == (node.fate is not NodeFate.UNJUDGED)
        if node.fate is NodeFate.COMMITTED:
            assert is_on_text(node)
        if parent is not None and not hangs_from_text and parent.decided_at_s is not None:
            assert node.decided_at_s == parent.decided_at_s


@settings(max_examples=30, deadline=None)
@given(world=worlds, seed=st.integers(0, 10**6))
def test_a_trace_survives_json(world: World, seed: int) -> None:
    trace = WatchedPair(world, seed).recorder.trace(
        round_trip_s=world.round_trip_s, target="big", drafter="small", text_of=str
    )
    assert trace_from_json(json.loads(json.dumps(trace.as_json())), "a.json") == trace


def a_hung(proposer: str = "lm", at: float = 0.0) -> Hung:
    return Hung(Guess(0, GuessKind(proposer, 0, 1, ""), 0.9, 0.8), 0.8, at)


def fates(recorder: TraceRecorder) -> dict[int, NodeFate]:
    return {node.node_id: node.fate for node in recorder.trace(round_trip_s=None).nodes}


def test_a_draft_that_the_verifier_had_overtaken_is_late_and_one_that_it_judged_is_rejected() -> (
    None
):
    recorder = TraceRecorder()
    nodes = [
        DraftNode(1, 10, AtPosition(4)),
        DraftNode(2, 11, AtNode(1)),
        DraftNode(3, 20, AtPosition(4)),
    ]
    recorder.sent(nodes, [a_hung()] * 3, 0.1)
    recorder.committed(Commit(5, (10,), 0, num_rows=1), 1, 0.2)  # it had none of them
    assert fates(recorder) == {1: NodeFate.LATE, 2: NodeFate.UNJUDGED, 3: NodeFate.LATE}
    recorder.committed(Commit(6, (12,), 0, is_correction=True, num_rows=2), 1, 0.3)
    assert fates(recorder)[2] is NodeFate.REJECTED


def test_the_answer_to_a_cancellation_is_no_pass() -> None:
    recorder = TraceRecorder()
    recorder.committed(Commit(5, (), 0, num_rows=0), 0, 0.2)
    assert recorder.trace(round_trip_s=None).passes == ()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(0, 60))
def test_no_more_is_kept_than_allowed_and_what_is_kept_has_its_fate(seed: int, most: int) -> None:
    pair = a_pair(World(), num_tokens=60, seed=seed)
    full, short = TraceRecorder(), TraceRecorder(max_events=most)
    tell(pair.edge, lambda: pair.now, full, short)
    pair.run()
    whole, part = (recorder.trace(round_trip_s=None) for recorder in (full, short))
    count = len(part.drafts) + len(part.messages) + len(part.nodes) + len(part.passes)
    assert count <= most
    assert not part.is_complete
    assert whole.is_complete
    assert part.nodes == whole.nodes[: len(part.nodes)]
    assert part.passes == whole.passes[: len(part.passes)]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def test_a_generation_tells_its_recorder_everything(executor: ThreadPoolExecutor) -> None:
    recorder = TraceRecorder()
    result = await generate(executor, FakeLink(ANSWER), Oracle(), recorder=recorder)
    trace = recorder.trace(
        round_trip_s=0.001, texts={record.position: record.text for record in result.records}
    )
    assert_sound(trace)
    assert "".join(text for commit in trace.passes for text in commit.texts) == result.text
    assert tuple(committed_text(trace).values()) == result.tokens
    num_committed = sum(node.fate is NodeFate.COMMITTED for node in trace.nodes)
    assert num_committed == result.stats.num_accepted_tokens > 0
    assert len(trace.nodes) == result.stats.num_draft_tokens
    assert len(trace.passes) == result.stats.num_passes
    assert 0 < trace.opened_at_s <= trace.drafts[0].began_s <= trace.drafts[0].ended_s
    assert trace.drafts[0].ended_s <= trace.nodes[0].drafted_at_s
    assert trace.drafts[0].num_guesses == 3
    assert {node.proposer for node in trace.nodes} == {"oracle"}
    assert trace.is_complete


async def test_an_answer_that_a_stop_string_ends_is_recorded_with_the_text_before_it(
    executor: ThreadPoolExecutor,
) -> None:
    recorder = TraceRecorder()
    result = await generate(
        executor, FakeLink(ANSWER), Oracle(), recorder=recorder, stop_strings=("convoy",)
    )
    trace = recorder.trace(
        round_trip_s=None, texts={record.position: record.text for record in result.records}
    )
    assert "".join(text for commit in trace.passes for text in commit.texts) == result.text


@pytest.mark.parametrize(
    ("num_new", "accepted", "guessed"), [(4, 1, 2), (3, 0, 2), (2, 0, 1), (1, 0, 0)]
)
def test_tokens_that_the_verifier_guessed_are_told_apart_as_far_as_they_are_new(
    num_new: int, accepted: int, guessed: int
) -> None:
    recorder = TraceRecorder()
    recorder.committed(Commit(5, (1, 2, 3, 4), 1, num_guessed=2, num_rows=6), num_new, 0.5)
    (commit,) = recorder.trace(round_trip_s=None).passes
    assert (commit.num_accepted, commit.num_guessed) == (accepted, guessed)


def test_a_trace_that_was_written_before_guesses_were_counted_is_read() -> None:
    recorder = TraceRecorder()
    recorder.committed(Commit(5, (1, 2), 1, num_guessed=1, num_rows=3), 2, 0.5)
    document = json.loads(json.dumps(recorder.trace(round_trip_s=None).as_json()))
    assert trace_from_json(document, "it").passes[0].num_guessed == 1
    del document["passes"][0]["num_guessed"]
    assert trace_from_json(document, "it").passes[0].num_guessed == 0


class Rebuilt:
    """A trace put together from what a watcher heard."""

    def __init__(self) -> None:
        self.opened_at_s = 0.0
        self.drafts: list[DraftSpan] = []
        self.nodes: dict[int, NodeTrace] = {}
        self.passes: list[PassTrace] = []

    def hear(self, event: TraceEvent) -> None:
        match event:
            case SessionOpened(at_s):
                self.opened_at_s = at_s
            case DraftSpan():
                self.drafts.append(event)
            case NodeTrace():
                self.nodes[event.node_id] = event
            case PassTrace():
                self.passes.append(event)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(0, 600))
def test_who_listens_while_it_happens_knows_what_the_trace_says_in_the_end(
    seed: int, most: int
) -> None:
    pair, rebuilt = a_pair(World(), num_tokens=60, seed=seed), Rebuilt()
    recorder = TraceRecorder(most, on_event=rebuilt.hear)
    tell(pair.edge, lambda: pair.now, recorder)
    recorder.opened(0.5)
    pair.run()
    trace = recorder.trace(round_trip_s=None)
    assert rebuilt.opened_at_s == trace.opened_at_s == 0.5
    assert tuple(rebuilt.drafts) == trace.drafts
    assert tuple(rebuilt.nodes[i] for i in sorted(rebuilt.nodes)) == trace.nodes
    assert tuple(rebuilt.passes) == trace.passes


async def test_a_generation_tells_a_watcher_each_fate_before_the_pass_that_decided_it(
    executor: ThreadPoolExecutor,
) -> None:
    heard: list[TraceEvent] = []
    recorder = TraceRecorder(on_event=heard.append)
    await generate(executor, FakeLink(ANSWER), Oracle(), recorder=recorder)
    assert isinstance(heard[0], SessionOpened)
    decided = [e for e in heard if isinstance(e, NodeTrace) and e.decided_at_s is not None]
    assert decided
    for node in decided:
        after = heard[heard.index(node) :]
        assert next(e for e in after if isinstance(e, PassTrace)).arrived_at_s == node.decided_at_s
