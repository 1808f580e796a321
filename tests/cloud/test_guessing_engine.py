"""The engine with guesses of its own, with sessions that hold off, and with what commits prune."""

import random
import time
from collections.abc import Sequence

import pytest
from fake_target import FakeTarget, greedy_text, logits_after
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import argsort, float32
from numpy.typing import NDArray
from test_batching_engine import LIMITS, SCHEDULERS, Client, an_open, run_to_the_end

from outrider_cloud import session as session_module
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.scheduler import Load, Schedule, Scheduler
from outrider_cloud.target import CACHED_TEXT, Segment
from outrider_common.acceptance import Acceptance, AcceptanceMode, RelaxedMargins
from outrider_common.messages import Commit, FinishReason
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtPosition, DraftNode

PROMPT = [1, 2, 3, 4, 5, 6, 7]
both = pytest.mark.parametrize("scheduler", SCHEDULERS)


class Forgetful(FakeTarget):
    """Knows the last token only, so that its greedy text soon repeats itself."""

    def _logits(self, segment: Segment) -> list[NDArray[float32]]:
        rows = segment.rows
        return [logits_after([token]) for token in rows.tokens[rows.first_logits_row :]]


def an_engine(
    target: FakeTarget | None = None, scheduler: str | Scheduler = "packing", max_guesses: int = 4
) -> BatchingEngine:
    return BatchingEngine(
        target or FakeTarget(),
        SCHEDULERS[scheduler]() if isinstance(scheduler, str) else scheduler,
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        max_own_guesses=max_guesses,
    )


def commits(client: Client) -> list[Commit]:
    return [event for event in client.events if isinstance(event, Commit)]


# --- own guesses ------------------------------------------------------------------------------


@both
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=4),
    share_good=st.floats(0, 1),
    temperature=st.sampled_from([0.0, 1.0]),
    is_forgetful=st.booleans(),
)
def test_with_guesses_every_session_writes_what_it_would_without(
    scheduler: str,
    seed: int,
    prompts: list[list[int]],
    share_good: float,
    temperature: float,
    is_forgetful: bool,
) -> None:
    texts = []
    for max_guesses in (0, 4):
        engine = an_engine(Forgetful() if is_forgetful else None, scheduler, max_guesses)
        sampling = SamplingParams(temperature=temperature, seed=seed)
        clients = [
            Client(engine, an_open(prompt, own_guesses=True, sampling=sampling), seed + i)
            for i, prompt in enumerate(prompts)
        ]
        draft_and_run(engine, clients, random.Random(seed), share_good)
        assert engine.num_sessions == 0
        texts.append([(client.answer, client.finish_reason) for client in clients])
    assert texts[0] == texts[1]


def draft_and_run(
    engine: BatchingEngine, clients: Sequence[Client], chance: random.Random, share_good: float
) -> None:
    for _ in range(1000):
        for client in clients:
            if client.finish_reason is None:
                for _ in range(chance.randrange(3)):
                    client.draft(good=chance.random() < share_good)
        if not engine.step():
            return


def test_a_text_that_repeats_itself_is_guessed_and_the_commits_say_so() -> None:
    engine = an_engine(Forgetful())
    client = Client(engine, an_open([1], 60, own_guesses=True, ignore_eos=True))
    run_to_the_end(engine)
    num_guessed = sum(commit.num_guessed for commit in commits(client))
    assert num_guessed > 30
    assert len(commits(client)) < 30
    assert all(commit.num_accepted == 0 for commit in commits(client))
    assert not any(commit.is_correction for commit in commits(client))
    counters = engine.stats.counters
    assert counters.num_right_own_guesses == num_guessed <= counters.num_own_guesses
    assert (counters.num_drafts, counters.num_draft_tokens) == (0, 0)


@pytest.mark.parametrize(("max_guesses", "asks"), [(0, True), (4, False)])
def test_nothing_is_guessed_unless_both_sides_want_it(max_guesses: int, asks: bool) -> None:
    engine = an_engine(Forgetful(), max_guesses=max_guesses)
    client = Client(engine, an_open([1], 60, own_guesses=asks, ignore_eos=True))
    run_to_the_end(engine)
    assert [commit.num_rows for commit in commits(client)] == [1] * 60


def test_guesses_never_outnumber_what_the_settings_say() -> None:
    engine = an_engine(Forgetful(), "turn", max_guesses=3)
    client = Client(engine, an_open([1], 60, own_guesses=True, ignore_eos=True))
    run_to_the_end(engine)
    assert max(commit.num_rows for commit in commits(client)) == 1 + 3


def test_a_lossy_mode_accepts_no_guess_that_it_would_not_have_written() -> None:
    """Its rule would take the second best token from a draft, and has a text full of them."""
    ranked = argsort(-logits_after([1])).tolist()
    prompt = [1, ranked[1], 5, 1, ranked[1], 6, 1]
    lossy = Acceptance(AcceptanceMode.RELAXED, relaxed=RelaxedMargins(beta=3, tau=100.0))
    engine = an_engine(Forgetful(), "turn")
    client = Client(engine, an_open(prompt, 1, own_guesses=True, acceptance=lossy))
    run_to_the_end(engine)
    assert client.answer == ranked[:1]


def test_a_draft_that_a_guess_proved_wrong_counts_as_refuted() -> None:
    engine = an_engine(Forgetful(), "turn")
    client = Client(engine, an_open([1], 60, own_guesses=True, ignore_eos=True))
    while not any(commit.num_guessed for commit in commits(client)):
        engine.step()
    for _ in range(30):
        if client.finish_reason is None:
            client.draft(good=False)
            engine.step()
    assert client.session._node_value.chances()[0] < 0.5


# --- pruning ----------------------------------------------------------------------------------


class Meddling:
    """A scheduler during whose work nodes arrive: after the loads were taken, before plans are."""

    def __init__(self, inner: Scheduler, meddle: list[Client], chance: random.Random) -> None:
        self._inner = inner
        self._clients = meddle
        self._chance = chance

    def schedule(self, loads: Sequence[Load]) -> Schedule:
        schedule = self._inner.schedule(loads)
        for client in self._clients:
            if client.finish_reason is None:
                client.draft(good=self._chance.random() < 0.5)
        return schedule

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class Watchful(FakeTarget):
    """Looks, as a pass begins, whether every row is of use to its session."""

    def __init__(self, clients: list[Client]) -> None:
        super().__init__()
        self.clients = clients
        self.num_node_rows = 0

    def forward(self, segments: Sequence[Segment]) -> object:  # type: ignore[override]
        for segment in segments:
            self._check(segment)
        return super().forward(segments)

    def _check(self, segment: Segment) -> None:
        (session,) = [c.session for c in self.clients if c.session.pages is segment.pages]
        rows = segment.rows
        if rows.first_logits_row:
            return  # a chunk of the prompt
        tree = session._tree
        assert segment.length == tree.num_committed - 1
        places = []
        for token, parent in zip(rows.tokens, rows.parents, strict=True):
            if parent == CACHED_TEXT:
                places.append(tree.frontier)
                assert token == tree.tokens[-1]
            else:
                places.append(places[parent].children[token])  # alive at this moment
                self.num_node_rows += 1


@both
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_node_that_a_commit_has_made_useless_costs_a_row(scheduler: str, seed: int) -> None:
    clients: list[Client] = []
    chance = random.Random(seed)
    target = Watchful(clients)
    meddling = Meddling(SCHEDULERS[scheduler](), clients, chance)
    engine = an_engine(target, meddling)  # type: ignore[arg-type]
    clients += [Client(engine, an_open([1, 2, i]), seed + i) for i in range(3)]
    draft_and_run(engine, clients, chance, share_good=0.5)
    for i, client in enumerate(clients):
        assert client.answer == greedy_text([1, 2, i], 20)
    assert target.num_node_rows == engine.stats.counters.num_draft_tokens


# --- holding off ------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = time.perf_counter()

    def __call__(self) -> float:
        return self.now


def hold_off(client: Client) -> Clock:
    """Give a session a clock of the test's own."""
    clock = Clock()
    client.session._clock = clock
    return clock


def a_waiting(engine: BatchingEngine, max_tokens: int = 5) -> Client:
    return Client(engine, an_open([1], max_tokens, waits_for_drafts=True, ignore_eos=True))


@both
def test_a_session_that_waits_for_drafts_is_not_hedged(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    client = a_waiting(engine)
    assert not engine.step()
    client.draft(good=True)
    assert engine.step()
    assert [commit.num_rows for commit in commits(client)] == [2]
    assert not engine.step()


@both
def test_it_goes_on_without_drafts_after_a_long_silence_until_one_comes(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    client = a_waiting(engine, max_tokens=9)
    clock = hold_off(client)
    assert not engine.step()
    clock.now += session_module.DRAFT_SILENCE_S + 1
    assert engine.step()
    assert engine.step()  # it is not waited for again and again
    client.draft(good=False)
    assert engine.step()
    assert not engine.step()  # now that the edge drafts it is


@both
def test_nobody_else_waits_with_it(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    waiting, other = a_waiting(engine), Client(engine, an_open(PROMPT))
    run_to_the_end(engine)
    assert other.answer == greedy_text(PROMPT, 20)
    assert waiting.events == []


@both
def test_what_no_draft_can_help_is_not_waited_for(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    client = a_waiting(engine, max_tokens=1)
    run_to_the_end(engine)
    assert client.finish_reason is FinishReason.LENGTH


@both
def test_an_edge_that_says_that_no_more_drafts_come_is_not_waited_for(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    client = a_waiting(engine)
    client.session.end_drafts()
    run_to_the_end(engine)
    assert client.answer == greedy_text([1], 5, stop=())


@both
def test_a_prompt_is_computed_while_drafts_are_waited_for(scheduler: str) -> None:
    engine = an_engine(scheduler=scheduler)
    client = Client(engine, an_open(PROMPT, waits_for_drafts=True))
    run_to_the_end(engine)
    assert client.events == []
    assert client.session.num_cached_tokens == len(PROMPT) - 1


def test_an_engine_that_only_waits_looks_again_when_the_silence_is_over() -> None:
    engine = an_engine()
    client = a_waiting(engine)
    hold_off(client)
    engine.step()
    assert engine._look_again_s == pytest.approx(session_module.DRAFT_SILENCE_S)


def test_a_node_that_comes_too_late_is_a_sign_of_life() -> None:
    engine = an_engine()
    client = Client(engine, an_open([1, 2], waits_for_drafts=True))
    clock = hold_off(client)
    while engine.step():
        pass  # the prompt
    clock.now += session_module.DRAFT_SILENCE_S - 1
    client.session.extend([DraftNode(1, 9, AtPosition(0))])  # the text has a 2 there
    clock.now += 2
    assert not engine.step()
