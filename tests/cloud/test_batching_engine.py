"""The engine: many sessions, each exactly the target's own text, one at a time or packed."""

import random
import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from fake_target import EOS, VOCAB_SIZE, FakeTarget, greedy_text, logits_after
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.choice import ArrayLogits
from outrider_cloud.engine import EngineEvent
from outrider_cloud.scheduler import (
    Load,
    PackingLimits,
    PackingScheduler,
    Schedule,
    TurnScheduler,
)
from outrider_cloud.session import VerifierSession
from outrider_cloud.target import Segment
from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    SparseDistribution,
    exact_token,
)
from outrider_common.errors import (
    CapacityError,
    InvalidPromptError,
    ModelFileError,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    UnsupportedError,
)
from outrider_common.messages import Commit, FinishReason, Limits, Occupancy, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree

REJECTION = AcceptanceMode.REJECTION
LIMITS = Limits(
    max_message_bytes=4096, max_outstanding_nodes=12, committed_id_window=64, max_sessions=4
)


SCHEDULERS = {
    "turn": lambda: TurnScheduler(max_nodes=6, prefill_chunk_tokens=3),
    "packing": lambda: PackingScheduler(
        PackingLimits(
            rows_per_pass=17,
            max_nodes_per_session=6,
            prefill_chunk_tokens=3,
            max_credit=12,
            max_draft_wait_s=0.0,
        )
    ),
}
both = pytest.mark.parametrize("scheduler", SCHEDULERS)


def make_engine(
    target: FakeTarget | None = None,
    scheduler: str = "packing",
    max_waiting: int = 0,
    share_prefixes: bool = True,
) -> BatchingEngine:
    return BatchingEngine(
        target or FakeTarget(),
        SCHEDULERS[scheduler](),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        max_waiting_sessions=max_waiting,
        share_prefixes=share_prefixes,
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


def runner_ups_of(text: Sequence[int], token: int, count: int) -> tuple[int, ...]:
    """By the target's logits after a text."""
    logits = logits_after(text)
    ranked = sorted(range(VOCAB_SIZE), key=lambda other: -logits[other])
    return tuple(other for other in ranked if other != token)[:count]


@both
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_runner_ups_of_every_token_are_those_of_its_own_row(
    scheduler: str, temperature: float
) -> None:
    engine = make_engine(scheduler=scheduler)
    sampling = SamplingParams(temperature=temperature, seed=3)
    fields = {"sampling": sampling, "ignore_eos": True}
    curious = Client(engine, an_open([1, 2], num_runner_ups=3, **fields))
    other = Client(engine, an_open([4], **fields))
    for _ in range(1000):
        for client in (curious, other):
            if client.finish_reason is None:
                client.draft(good=True)
        if not engine.step():
            break
    text = curious.tree.tokens
    commits = [event for event in curious.events if isinstance(event, Commit)]
    assert len(text) == 22
    assert temperature or any(len(commit.tokens) > 1 for commit in commits)
    for commit in commits:
        places = range(commit.start, commit.start + len(commit.tokens))
        assert commit.runner_ups == tuple(runner_ups_of(text[:i], text[i], 3) for i in places)
    assert all(isinstance(event, Commit) and not event.runner_ups for event in other.events)


def test_a_resumed_session_goes_on_where_the_text_was() -> None:
    prompt = [1, 2]
    whole = greedy_text(prompt, 20)
    half = len(whole) // 2
    engine = make_engine()
    message = an_open([*prompt, *whole[:half]], num_prompt_tokens=2)
    client = Client(engine, message)
    run_to_the_end(engine)
    assert client.answer == whole[half:]


@settings(max_examples=60, deadline=None)
@given(
    breaks=st.lists(st.integers(1, 9), max_size=8),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    penalty=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 2**64 - 1),
    drafts_seed=st.integers(0, 1000),
)
def test_an_answer_over_any_number_of_sessions_is_that_of_one(
    breaks: list[int], temperature: float, penalty: float, seed: int, drafts_seed: int
) -> None:
    prompt, num_tokens = [3, 1, 2], 30
    sampling = SamplingParams(
        temperature=temperature, frequency_penalty=penalty, presence_penalty=penalty, seed=seed
    )

    def open_with(prefix: list[int], engine: BatchingEngine) -> Client:
        message = an_open(prefix, num_tokens, sampling=sampling, num_prompt_tokens=len(prompt))
        return Client(engine, message, drafts_seed)

    engine = make_engine()
    whole = open_with(prompt, engine)
    run_to_the_end(engine)
    text = list(prompt)
    for num_steps in [*breaks, 10**6]:
        engine = make_engine()
        client = open_with(text, engine)
        while num_steps and client.finish_reason is None:
            client.draft(good=num_steps % 2 == 0)
            engine.step()
            num_steps -= 1
        text = list(client.tree.tokens)
        if client.finish_reason is not None:
            break
    assert text == list(whole.tree.tokens)


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
    with pytest.raises(CapacityError, match="4 places"):
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


class TimedTarget(FakeTarget):
    """Its passes take a second, and another for each row, by its own clock."""

    now_s = 0.0

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        logits = super().forward(segments)
        self.now_s += 1 + self.num_rows[-1]
        return logits


def test_warming_up_teaches_the_scheduler_what_passes_cost_and_leaves_no_trace() -> None:
    target = TimedTarget()
    scheduler = PackingScheduler(PackingLimits(17, 6, 3, 12, 0.0))
    engine = BatchingEngine(
        target,
        scheduler,
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        clock=lambda: target.now_s,
    )
    engine.warm_up(17)
    assert sorted(set(target.num_rows)) == [1, 2, 3, 4, 6, 8, 12, 16, 17]
    assert scheduler.offer.price == 0.5  # a row takes half as long as a pass of one
    assert engine.occupancy == Occupancy(pass_us=2_000_000)
    assert engine.stats.pages.num_free == engine.stats.pages.num_pages
    client = Client(engine, an_open([1, 2, 3]))
    run_to_the_end(engine)
    assert client.answer == greedy_text([1, 2, 3], 20)


def test_a_verifier_says_how_long_its_passes_take_while_somebody_waits_for_them() -> None:
    target = TimedTarget()
    engine = BatchingEngine(
        target,
        SCHEDULERS["turn"](),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        clock=lambda: target.now_s,
    )
    engine.warm_up(17)
    Client(engine, an_open([1, 2, 3]))
    engine.step()  # two rows of prefill
    assert engine.occupancy == Occupancy(num_running=1, pass_us=3_000_000)
    run_to_the_end(engine)
    assert engine.occupancy == Occupancy(pass_us=2_000_000)


# --- memory -----------------------------------------------------------------------------------


def test_sessions_that_begin_alike_compute_their_beginning_once() -> None:
    target = FakeTarget()
    engine = make_engine(target)
    prompt = [i % 10 for i in range(40)]
    clients = [Client(engine, an_open([*prompt, i], 3, ignore_eos=True)) for i in range(4)]
    run_to_the_end(engine)
    for i, client in enumerate(clients):
        assert client.answer == greedy_text([*prompt, i], 3, stop=())
    assert sum(target.num_rows) == 40 + 4 * 3
    assert engine.stats.counters.num_prefix_hits == 3 * 40
    assert engine.stats.pages.num_held == 0


def test_where_nothing_is_shared_each_session_computes_its_own_beginning() -> None:
    target = FakeTarget()
    engine = make_engine(target, share_prefixes=False)
    prompt = [i % 10 for i in range(8)]
    clients = [Client(engine, an_open(prompt, 3, ignore_eos=True)) for _ in range(4)]
    run_to_the_end(engine)
    assert [client.answer for client in clients] == [greedy_text(prompt, 3, stop=())] * 4
    assert sum(target.num_rows) == 4 * (8 + 2)
    assert target.num_rows[0] > 8  # nobody waits for another
    assert engine.stats.counters.num_prefix_hits == 0


def sampled_text(prompt: Sequence[int], num_tokens: int, params: SamplingParams) -> list[int]:
    """What the target alone writes in `exact` mode."""
    text = list(prompt)
    for position in range(len(prompt), len(prompt) + num_tokens):
        text.append(exact_token(logits_after(text), params, position, prompt, ()))
    return text[len(prompt) :]


@both
def test_texts_that_part_within_a_page_do_not_share_it_when_drafts_fill_it(
    scheduler: str,
) -> None:
    engine = make_engine(scheduler=scheduler)
    prompt = [1, 2, 3]  # of pages of four tokens
    for seed in range(30):
        params = SamplingParams(temperature=1.0, seed=seed)
        text = sampled_text(prompt, 8, params)
        client = Client(engine, an_open(prompt, 8, ignore_eos=True, sampling=params))
        chain = [DraftNode(i, text[i - 1], AtNode(i - 1)) for i in range(2, 4)]
        client.session.extend([DraftNode(1, text[0], AtPosition(2)), *chain])
        run_to_the_end(engine)
        assert client.answer == text


def test_a_session_goes_on_with_a_shared_beginning_when_the_one_that_computes_it_leaves() -> None:
    engine = make_engine()
    prompt = [i % 10 for i in range(40)]
    first, second = (Client(engine, an_open(prompt, 3, ignore_eos=True)) for _ in range(2))
    for _ in range(4):
        engine.step()
    first.session.cancel()
    run_to_the_end(engine)
    assert second.answer == greedy_text(prompt, 3, stop=())


def test_a_resumed_session_finds_what_was_computed_before() -> None:
    target = FakeTarget()
    engine = make_engine(target)
    prompt = [i % 10 for i in range(30)]
    client = Client(engine, an_open(prompt, 40, ignore_eos=True))
    for _ in range(30):
        engine.step()
    client.session.cancel()
    half = client.answer
    num_rows = sum(target.num_rows)
    again = Client(
        engine, an_open([*prompt, *half], 40, ignore_eos=True, num_prompt_tokens=len(prompt))
    )
    run_to_the_end(engine)
    assert half + again.answer == greedy_text(prompt, 40, stop=())
    num_left = 40 - len(half)
    assert sum(target.num_rows) - num_rows <= num_left + target.cache_shape.page_tokens


@both
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), num_pages=st.integers(8, 20))
def test_sessions_that_do_not_fit_together_wait_and_write_the_same(
    scheduler: str, seed: int, num_pages: int
) -> None:
    chance = random.Random(seed)
    engine = make_engine(FakeTarget(num_pages=num_pages), scheduler, max_waiting=20)
    prompts = [[chance.randrange(3) for _ in range(chance.randrange(1, 20))] for _ in range(8)]
    clients = [Client(engine, an_open(p, 10), seed + i) for i, p in enumerate(prompts)]
    for _ in range(3000):
        for client in clients:
            if client.finish_reason is None and chance.random() < 0.3:
                client.draft(good=chance.random() < 0.5)
        if not engine.step():
            break
    assert [client.answer for client in clients] == [greedy_text(p, 10) for p in prompts]
    usage = engine.stats.pages
    assert (usage.num_held, usage.num_cached + usage.num_free) == (0, num_pages)


def test_a_session_that_must_make_room_loses_no_token() -> None:
    engine = make_engine(FakeTarget(num_pages=10))
    clients = [Client(engine, an_open([i], 30, ignore_eos=True)) for i in (1, 2)]
    run_to_the_end(engine)
    assert engine.stats.counters.num_preemptions > 0
    for client in clients:
        assert client.answer == greedy_text([client.prompt[0]], 30, stop=())


def test_a_prompt_that_the_cache_has_no_room_for_is_refused_with_the_limit() -> None:
    engine = make_engine(FakeTarget(num_pages=5, page_tokens=4))
    with pytest.raises(InvalidPromptError, match="at most 19"):
        Client(engine, an_open([1] * 20))
    client = Client(engine, an_open([1] * 15, 50, ignore_eos=True))
    run_to_the_end(engine)
    assert len(client.answer) == 5
    assert client.finish_reason is FinishReason.LENGTH


def test_more_sessions_than_may_run_wait_their_turn_and_then_run() -> None:
    engine = make_engine(max_waiting=2)
    clients = [Client(engine, an_open([i], 5, ignore_eos=True)) for i in range(6)]
    engine.step()
    with pytest.raises(CapacityError, match="4 sessions run, 2 wait") as caught:
        Client(engine, an_open([1]))
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 30
    run_to_the_end(engine)
    assert all(len(client.answer) == 5 for client in clients)


def test_memory_in_use_is_within_a_page_a_session_of_the_tokens_held() -> None:
    engine = make_engine()
    clients = [Client(engine, an_open([i] * 30, 50, ignore_eos=True)) for i in range(4)]
    for _ in range(40):
        engine.step()
    stats = engine.stats
    assert stats.num_held_tokens == sum(len(c.prompt) + len(c.answer) - 1 for c in clients)
    assert 0 <= stats.pages.num_held * stats.page_tokens - stats.num_held_tokens <= 4 * 3
    assert stats.kv_bytes_held == stats.pages.num_held * stats.bytes_per_page


# --- faults -----------------------------------------------------------------------------------


def test_logits_that_are_no_numbers_end_their_own_session_with_a_sentence() -> None:
    class Broken(FakeTarget):
        def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
            logits = super().forward(segments).numpy().copy()
            logits[0] = np.nan
            return ArrayLogits(logits)

    engine = make_engine(Broken())
    spoilt, fine = (Client(engine, an_open([i], 1, ignore_eos=True)) for i in (1, 2))
    engine.step()
    assert isinstance(spoilt.events[-1], ModelFileError)
    assert "not numbers" in str(spoilt.events[-1])
    assert fine.answer == greedy_text([2], 1, stop=())


def test_if_the_engine_itself_fails_every_session_is_told_and_no_more_are_taken() -> None:
    class Broken(PackingScheduler):
        def schedule(self, loads: Sequence[Load]) -> Schedule:
            if loads:
                raise RuntimeError("a bug")
            return super().schedule(loads)

    engine = BatchingEngine(
        FakeTarget(),
        Broken(PackingLimits(17, 6, 3, 12, 0.0)),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
    )
    failed = threading.Event()
    engine.start(on_failure=failed.set)
    client = Client(engine, an_open([1]))
    assert failed.wait(10)
    assert isinstance(client.events[-1], UnavailableError)
    with pytest.raises(UnavailableError):
        Client(engine, an_open([1]))
    engine.stop()


@pytest.mark.parametrize("mode", [mode for mode in AcceptanceMode if mode is not REJECTION])
def test_a_distribution_where_nothing_is_drawn_is_refused(mode: AcceptanceMode) -> None:
    engine = make_engine()
    client = Client(engine, an_open([1], 5, ignore_eos=True, acceptance=Acceptance(mode)))
    draft = SparseDistribution((0,), (1,))
    with pytest.raises(ProtocolViolationError, match="node 1 comes with a distribution"):
        client.session.extend([DraftNode(1, 0, AtPosition(0), draft)])
    run_to_the_end(engine)
    assert client.answer == greedy_text([1], 5, stop=())


def test_a_mode_that_is_not_offered_is_refused_by_name() -> None:
    engine = BatchingEngine(
        FakeTarget(),
        SCHEDULERS["turn"](),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        acceptance_modes=(AcceptanceMode.EXACT, REJECTION),
    )
    with pytest.raises(UnsupportedError, match=r"'relaxed' is not.*exact, rejection"):
        Client(engine, an_open([1], acceptance=Acceptance(AcceptanceMode.RELAXED)))


def test_thresholds_of_a_session_are_its_own() -> None:
    engine = make_engine()
    ranked = np.argsort(-logits_after([1])).tolist()
    clients = [
        Client(engine, an_open([1], 2, ignore_eos=True, acceptance=relaxed(beta)))
        for beta in (2, 3)
    ]
    for client in clients:
        client.session.extend([DraftNode(1, ranked[2], AtPosition(0))])
    run_to_the_end(engine)
    assert [client.answer[0] for client in clients] == [ranked[0], ranked[2]]


def relaxed(beta: int) -> Acceptance:
    return Acceptance(AcceptanceMode.RELAXED, relaxed=RelaxedMargins(beta, tau=100.0))


def test_a_tree_of_ten_thousand_nodes_is_refused_and_the_session_goes_on() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1], 5, ignore_eos=True))
    with pytest.raises(ProtocolViolationError, match="10000 more draft nodes"):
        client.session.extend([DraftNode(i, 0, AtPosition(0)) for i in range(1, 10_001)])
    run_to_the_end(engine)
    assert client.answer == greedy_text([1], 5, stop=())


def test_a_session_cancelled_in_the_middle_of_a_pass_gives_its_pages_back() -> None:
    gate = threading.Event()
    engine = make_engine(FakeTarget(gate=gate))
    client, other = (Client(engine, an_open([i], 5, ignore_eos=True)) for i in (1, 2))
    engine.start()
    client.session.cancel()
    gate.set()
    for _ in range(1000):
        if engine.num_sessions == 0:
            break
        time.sleep(0.01)
    engine.stop()
    assert client.finish_reason is FinishReason.CANCELLED
    assert other.answer == greedy_text([2], 5, stop=())
    assert engine.stats.pages.num_held == 0


def test_commits_carry_credit_and_price() -> None:
    engine = make_engine()
    client = Client(engine, an_open([1], 3, ignore_eos=True))
    run_to_the_end(engine)
    for commit in client.events:
        assert isinstance(commit, Commit)
        assert commit.credit is not None
        assert 0 <= commit.credit <= LIMITS.max_outstanding_nodes
        assert 0 <= commit.price <= 1


@both
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_log_probabilities_of_every_token_are_the_models_own_at_any_temperature(
    scheduler: str, temperature: float
) -> None:
    engine = make_engine(scheduler=scheduler)
    sampling = SamplingParams(temperature=temperature, seed=3, repetition_penalty=1.3)
    fields = {"sampling": sampling, "ignore_eos": True}
    curious = Client(engine, an_open([1, 2], num_top_logprobs=3, **fields))
    other = Client(engine, an_open([4], **fields))
    for _ in range(1000):
        for client in (curious, other):
            if client.finish_reason is None:
                client.draft(good=True)
        if not engine.step():
            break
    text = curious.tree.tokens
    found = {
        commit.start + i: one
        for commit in curious.events
        if isinstance(commit, Commit)
        for i, one in enumerate(commit.logprobs)
    }
    assert sorted(found) == list(range(2, len(text)))
    for position, one in found.items():
        (expected,) = ArrayLogits(logits_after(text[:position])[None]).logprobs(
            [0], [text[position]], 3
        )
        assert one.logprob == pytest.approx(expected.logprob, abs=1e-5)
        assert dict(one.top) == pytest.approx(dict(expected.top), abs=1e-5)
    assert all(isinstance(event, Commit) and not event.logprobs for event in other.events)
