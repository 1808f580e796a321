"""The engine: many sessions, each exactly the target's own text, one at a time or packed."""

import random
import threading

import pytest
from fake_target import EOS, VOCAB_SIZE, FakeTarget, greedy_text
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.scheduler import PackingScheduler, TurnScheduler
from outrider_cloud.session import VerifierSession
from outrider_common.errors import CapacityError, OutriderError, ProtocolViolationError
from outrider_common.messages import Commit, FinishReason, Limits, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree

LIMITS = Limits(
    max_message_bytes=4096, max_outstanding_nodes=12, committed_id_window=64, max_sessions=4
)


SCHEDULERS = {
    "turn": lambda: TurnScheduler(max_nodes=6, prefill_chunk_tokens=3),
    "packing": lambda: PackingScheduler(
        rows_per_pass=17, max_nodes_per_session=6, prefill_chunk_tokens=3
    ),
}
both = pytest.mark.parametrize("scheduler", SCHEDULERS)


def make_engine(target: FakeTarget | None = None, scheduler: str = "packing") -> BatchingEngine:
    return BatchingEngine(
        target or FakeTarget(),
        SCHEDULERS[scheduler](),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
    )


def an_open(prompt: list[int], max_tokens: int = 20, **changes: object) -> OpenSession:
    fields: dict[str, object] = {
        "prefix": tuple(prompt),
        "num_prompt_tokens": len(prompt),
        "max_tokens": max_tokens,
        "sampling": SamplingParams(),
        "tokenizer_fingerprint": "v1:fake",
    }
    return OpenSession(**(fields | changes))  # type: ignore[arg-type]


class Client:
    """An edge in miniature: applies commits to its own tree and drafts at random."""

    def __init__(self, engine: BatchingEngine, message: OpenSession, seed: int = 0) -> None:
        self.events: list[EngineEvent] = []
        self.prompt = message.prefix
        self.tree = SpeculationTree(message.prefix)
        self.random = random.Random(seed)
        self.session: VerifierSession = engine.open(message, self.receive)

    def receive(self, event: EngineEvent) -> None:
        self.events.append(event)
        if isinstance(event, Commit):
            self.tree.commit(event.start, event.tokens)

    @property
    def answer(self) -> list[int]:
        return list(self.tree.tokens[len(self.prompt) :])

    @property
    def finish_reason(self) -> FinishReason | None:
        last = self.events[-1] if self.events else None
        return last.finish_reason if isinstance(last, Commit) else None

    def draft(self, good: bool) -> None:
        """Hang one node somewhere; the right one if `good`."""
        if self.tree.num_outstanding >= LIMITS.max_outstanding_nodes:
            return
        parent = self.random.choice([self.tree.frontier, *self.tree.nodes()])
        text = [*self.tree.tokens, *(node.token for node in parent.path())]
        token = greedy_text(text, 1)[0] if good else self.random.randrange(VOCAB_SIZE)
        name = (
            AtPosition(parent.position) if parent is self.tree.frontier else AtNode(parent.ids[0])
        )
        node = DraftNode(self.tree.last_id + 1, token, name)
        self.tree.extend([node])
        self.session.extend([node])


def run_to_the_end(engine: BatchingEngine) -> None:
    for _ in range(2000):
        if not engine.step():
            return
    raise AssertionError("the engine never came to an end")


def test_an_undrafted_session_is_the_targets_own_text() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1, 2, 3, 4, 5, 6, 7]))
    run_to_the_end(engine)
    assert client.answer == greedy_text([1, 2, 3, 4, 5, 6, 7], 20)


@both
@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    prompts=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=9), min_size=1, max_size=4),
    share_good=st.floats(0, 1),
)
def test_whatever_is_drafted_every_session_is_the_targets_own_text(
    scheduler: str, seed: int, prompts: list[list[int]], share_good: float
) -> None:
    engine = make_engine(scheduler=scheduler)
    clients = [Client(engine, an_open(prompt), seed + i) for i, prompt in enumerate(prompts)]
    chance = random.Random(seed)
    for _ in range(1000):
        for client in clients:
            if client.finish_reason is None:
                for _ in range(chance.randrange(4)):
                    client.draft(good=chance.random() < share_good)
        if not engine.step():
            break
    for prompt, client in zip(prompts, clients, strict=True):
        assert client.answer == greedy_text(prompt, 20)
        ended_by_stop = client.answer[-1] == EOS
        assert client.finish_reason is (FinishReason.STOP if ended_by_stop else FinishReason.LENGTH)
    assert engine.num_sessions == 0


def test_good_drafts_are_accepted_and_counted() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1], ignore_eos=True))
    text = greedy_text([1], 5, stop=())
    nodes = [DraftNode(1, text[0], AtPosition(0)), DraftNode(2, text[1], AtNode(1))]
    nodes.append(DraftNode(3, (text[2] + 1) % VOCAB_SIZE, AtNode(2)))
    client.session.extend(nodes)
    engine.step()
    (commit,) = client.events
    assert isinstance(commit, Commit)
    assert (commit.tokens, commit.num_accepted, commit.num_rows) == (tuple(text[:3]), 2, 4)
    assert commit.is_correction


def test_a_resumed_session_goes_on_where_the_text_was() -> None:
    prompt = [1, 2]
    whole = greedy_text(prompt, 20)
    half = len(whole) // 2
    engine = make_engine()
    message = an_open([*prompt, *whole[:half]], num_prompt_tokens=2)
    client = Client(engine, message)
    run_to_the_end(engine)
    assert client.answer == whole[half:]


def test_sampling_depends_on_the_seed_and_not_on_drafts() -> None:
    answers = []
    for seed, share_good in ((1, 0.0), (1, 1.0), (2, 0.0)):
        engine = make_engine()
        sampling = SamplingParams(temperature=1.5, seed=seed)
        client = Client(engine, an_open([3], 40, sampling=sampling, ignore_eos=True))
        while client.finish_reason is None:
            client.draft(good=share_good > 0.5)
            engine.step()
        answers.append(client.answer)
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_penalties_count_the_text_that_the_pass_itself_commits() -> None:
    sampling = SamplingParams(frequency_penalty=2.0, presence_penalty=2.0)
    answers = []
    for drafts in (False, True):
        engine = make_engine()
        client = Client(engine, an_open([3], 30, sampling=sampling, ignore_eos=True), seed=4)
        while client.finish_reason is None:
            for _ in range(8 * drafts):
                client.draft(good=False)
            engine.step()
        answers.append(client.answer)
    assert answers[0] == answers[1]


def test_a_session_ends_where_the_model_has_no_more_positions() -> None:
    engine = make_engine(FakeTarget(max_positions=12))
    client = Client(engine, an_open([1] * 8, 50, ignore_eos=True))
    run_to_the_end(engine)
    assert client.tree.num_committed == 12
    assert client.finish_reason is FinishReason.LENGTH


def test_a_cancelled_session_ends_and_frees_its_place() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1], ignore_eos=True))
    engine.step()
    client.session.cancel()
    run_to_the_end(engine)
    assert client.finish_reason is FinishReason.CANCELLED
    assert engine.num_sessions == 0
    client.session.cancel()  # harmless


def test_too_many_nodes_are_refused_and_the_session_goes_on() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1]))
    nodes = [DraftNode(i, 0, AtPosition(0)) for i in range(1, LIMITS.max_outstanding_nodes + 2)]
    with pytest.raises(ProtocolViolationError, match="limit of 12"):
        client.session.extend(nodes)
    run_to_the_end(engine)
    assert client.answer == greedy_text([1], 20)


def test_a_full_verifier_refuses_and_says_so() -> None:
    engine = make_engine()
    for _ in range(LIMITS.max_sessions):
        Client(engine, an_open([1]))
    with pytest.raises(CapacityError, match="4 sessions"):
        Client(engine, an_open([1]))
    run_to_the_end(engine)
    Client(engine, an_open([1]))


def test_a_session_whose_rows_make_a_pass_fail_fails_alone() -> None:
    engine = make_engine(FakeTarget(poison=8))
    unlucky = Client(engine, an_open([8]))
    others = [Client(engine, an_open([i], 5, ignore_eos=True)) for i in (1, 3)]
    engine.step()
    assert isinstance(unlucky.events[-1], OutriderError)
    assert "no room" not in str(unlucky.events[-1])
    assert [len(client.answer) for client in others] == [1, 1]
    assert engine.num_sessions == 2


def test_a_draft_that_makes_a_pass_fail_ends_its_own_session_and_others_stay_exact() -> None:
    engine = make_engine(FakeTarget(poison=8))
    unlucky = Client(engine, an_open([1]))
    lucky = Client(engine, an_open([2, 1, 2], 2, ignore_eos=True))
    unlucky.session.extend([DraftNode(1, 8, AtPosition(0))])
    run_to_the_end(engine)
    assert isinstance(unlucky.events[-1], OutriderError)
    assert lucky.answer == greedy_text([2, 1, 2], 2, stop=())


def test_without_packing_sessions_take_turns() -> None:
    engine = make_engine(scheduler="turn")
    clients = [Client(engine, an_open([i], ignore_eos=True)) for i in (1, 2, 3)]
    for _ in range(6):
        engine.step()
    assert [len(client.answer) for client in clients] == [2, 2, 2]


def test_one_pass_serves_many_sessions() -> None:
    target = FakeTarget()
    engine = make_engine(target)
    clients = [Client(engine, an_open([i], ignore_eos=True)) for i in (1, 2, 3)]
    clients[0].draft(good=True)
    for _ in range(6):
        engine.step()
    assert all(len(client.answer) >= 6 for client in clients)
    assert target.num_rows == [4, 3, 3, 3, 3, 3]


def test_the_engines_thread_serves_sessions_and_stops() -> None:
    engine = make_engine()
    engine.start()
    done = threading.Event()
    events: list[EngineEvent] = []

    def sink(event: EngineEvent) -> None:
        events.append(event)
        if isinstance(event, Commit) and event.finish_reason:
            done.set()

    engine.open(an_open([1, 2], 10), sink)
    assert done.wait(10)
    tokens = [t for event in events if isinstance(event, Commit) for t in event.tokens]
    assert tokens == greedy_text([1, 2], 10)
    engine.stop()
