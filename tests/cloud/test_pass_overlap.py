"""What the engine does while a pass runs: passes here run until the test lets them go."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest
from fake_target import FakeTarget, LatePass, greedy_text

from outrider_cloud.batching_engine import PASSES_PER_SHADOW_PASS, BatchingEngine
from outrider_cloud.choice import ArrayLogits
from outrider_cloud.engine import EngineEvent
from outrider_cloud.pages import PageKeys
from outrider_cloud.pass_cost import PassCost
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.target import Segment
from outrider_common.errors import CapacityError, OutriderError, UnavailableError
from outrider_common.messages import Commit, FinishReason, Limits, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode

LONGEST_WAIT_S = 30
"""Nothing here takes that long, unless it never happens."""

LIMITS = Limits(
    max_message_bytes=4096, max_outstanding_nodes=12, committed_id_window=64, max_sessions=4
)


class HeldTarget(FakeTarget):
    """Its passes run until they are let go.

    Args:
        poison: passes that hold this token fail as soon as they are launched.
    """

    def __init__(self, poison: int | None = None) -> None:
        super().__init__()
        self.begun: queue.Queue[list[int]] = queue.Queue()  # of each pass: rows of each segment
        self._poison = poison
        self._permits = threading.Semaphore(0)

    def begin(self, segments: Sequence[Segment]) -> LatePass:
        self.begun.put([len(segment.rows.tokens) for segment in segments])
        if any(self._poison in segment.rows.tokens for segment in segments):
            raise MemoryError("no room to launch it")
        return LatePass(self, segments)

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        assert self._permits.acquire(timeout=LONGEST_WAIT_S), "the pass was never let go"
        return super().forward(segments)

    def next_pass(self) -> list[int]:
        """Wait until one more pass has begun: the rows of each of its segments."""
        return self.begun.get(timeout=LONGEST_WAIT_S)

    def let_go(self, num_passes: int = 1) -> None:
        self._permits.release(num_passes)


class FreeRows(PassCost):
    """Learns nothing of time, so that every draft is worth a row in every run of a test."""

    def observe(self, num_rows: int, seconds: float) -> None:
        pass


def make_engine(target: FakeTarget, shadow_rate: float = 0.0) -> BatchingEngine:
    return BatchingEngine(
        target,
        PackingScheduler(PackingLimits(64, 12, 64, 12, 0.0), cost=FreeRows()),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=LIMITS,
        shadow_rate=shadow_rate,
    )


@contextmanager
def running(engine: BatchingEngine, target: HeldTarget) -> Iterator[None]:
    """The engine's thread; at the end all passes are let go."""
    engine.start()
    try:
        yield
    finally:
        target.let_go(1000)
        engine.stop()


def an_open(prompt: Sequence[int], max_tokens: int = 50) -> OpenSession:
    return OpenSession(
        prefix=tuple(prompt),
        num_prompt_tokens=len(prompt),
        max_tokens=max_tokens,
        sampling=SamplingParams(),
        tokenizer_fingerprint="v1:fake",
        ignore_eos=True,
    )


class Client:
    """One session, and what it is told."""

    def __init__(self, engine: BatchingEngine, prompt: Sequence[int], max_tokens: int = 50) -> None:
        self.told: queue.Queue[EngineEvent] = queue.Queue()
        self.session = engine.open(an_open(prompt, max_tokens), self.told.put)

    def next_event(self) -> EngineEvent:
        return self.told.get(timeout=LONGEST_WAIT_S)

    def next_tokens(self) -> list[int]:
        event = self.next_event()
        assert isinstance(event, Commit)
        return list(event.tokens)


def test_a_commit_is_told_while_the_next_pass_runs() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    client = Client(engine, [1])
    text = greedy_text([1], 3, stop=())
    with running(engine, target):
        target.next_pass()
        for token in text:
            target.let_go()
            target.next_pass()  # it will run until it is let go, which is after the commit is told
            assert client.next_tokens() == [token]
        assert client.told.empty()


def test_what_arrives_while_a_pass_runs_is_in_the_next_one() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    first = Client(engine, [1])
    text = greedy_text([1], 4, stop=())
    with running(engine, target):
        assert target.next_pass() == [1]
        chain = [DraftNode(i, text[i - 1], AtNode(i - 1)) for i in (2, 3)]
        first.session.extend([DraftNode(1, text[0], AtPosition(0)), *chain])
        second = Client(engine, [2])
        target.let_go()
        assert target.next_pass() == [3, 1]  # the chain's first node is the frontier by now
        target.let_go()
        target.next_pass()
        assert [first.next_tokens(), first.next_tokens()] == [text[:1], text[1:]]
        assert second.next_tokens() == greedy_text([2], 1, stop=())


def test_the_last_commit_does_not_wait_for_a_pass_that_never_comes() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    client = Client(engine, [1], max_tokens=1)
    with running(engine, target):
        target.next_pass()
        target.let_go()
        assert client.next_tokens() == greedy_text([1], 1, stop=())


def test_the_digests_of_a_prompt_are_made_when_it_is_opened_and_not_in_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = make_engine(FakeTarget(page_tokens=4))
    digested: list[bytes] = []
    digest = PageKeys._digest

    def counted(keys: PageKeys, data: bytes) -> bytes:
        digested.append(data)
        return digest(keys, data)

    monkeypatch.setattr(PageKeys, "_digest", counted)
    Client(engine, [3] * 21, max_tokens=1)
    assert len(digested) == 1 + 5  # of nothing, and of every full page
    while engine.step():
        pass
    assert len(digested) == 1 + 5


def test_a_pass_that_cannot_be_launched_fails_only_who_is_at_fault() -> None:
    target = HeldTarget(poison=8)
    engine = make_engine(target)
    unlucky, lucky = Client(engine, [8]), Client(engine, [2], max_tokens=2)
    with running(engine, target):
        target.let_go(10)
        assert isinstance(unlucky.next_event(), OutriderError)
        assert lucky.next_tokens() + lucky.next_tokens() == greedy_text([2], 2, stop=())
    assert engine.stats.pages.num_held == 0


def test_who_fails_in_a_pass_is_told_first_what_the_one_before_has_committed() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    client = Client(engine, [1])
    with running(engine, target):
        target.next_pass()
        target.poison = greedy_text([1], 1, stop=())[0]  # as which it comes back to the target
        target.let_go(3)  # the third one is the part of the second that is computed again
        assert client.next_tokens() == [target.poison]
        assert isinstance(client.next_event(), OutriderError)


def test_who_cancels_in_the_middle_of_a_pass_is_told_first_what_it_commits() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    client = Client(engine, [1])
    with running(engine, target):
        target.next_pass()
        client.session.cancel()
        target.let_go()
        assert client.next_tokens() == greedy_text([1], 1, stop=())
        last = client.next_event()
        assert isinstance(last, Commit)
        assert last.finish_reason is FinishReason.CANCELLED
    assert engine.stats.pages.num_held == 0


def open_until_it_stops(engine: BatchingEngine) -> None:
    for _ in range(100 * LONGEST_WAIT_S):
        with suppress(CapacityError):
            engine.open(an_open([3]), lambda _event: None)
        time.sleep(0.01)


def test_a_stop_in_the_middle_of_a_pass_lets_it_end_and_tells_everyone() -> None:
    target = HeldTarget()
    engine = make_engine(target)
    client = Client(engine, [1])
    engine.start()
    target.next_pass()
    stopping = threading.Thread(target=engine.stop)
    stopping.start()
    with pytest.raises(UnavailableError):
        open_until_it_stops(engine)
    target.let_go(2)
    stopping.join(LONGEST_WAIT_S)
    assert not stopping.is_alive()
    assert client.next_tokens() == greedy_text([1], 1, stop=())
    assert isinstance(client.next_event(), UnavailableError)
    assert client.told.empty()
    assert target.begun.empty()  # no pass was begun after the one that ran
    assert engine.stats.pages.num_held == 0


class ShadowWatch(FakeTarget):
    """Calls `on_shadow` when a pass is computed that the engine has not begun for a session."""

    def __init__(self, on_shadow: Callable[[], object]) -> None:
        super().__init__()
        self._on_shadow = on_shadow
        self._num_begun = 0

    def begin(self, segments: Sequence[Segment]) -> LatePass:
        self._num_begun += 1
        return super().begin(segments)

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        if len(self.num_rows) == self._num_begun:
            self._num_begun += 1
            self._on_shadow()
        return super().forward(segments)


def test_nobody_waits_for_a_pass_of_the_shadow_decode_to_be_told_a_commit() -> None:
    told: list[EngineEvent] = []
    num_told_at_shadow: list[int] = []
    target = ShadowWatch(lambda: num_told_at_shadow.append(len(told)))
    engine = make_engine(target, shadow_rate=1.0)
    engine.open(an_open([2], max_tokens=2), lambda _event: None)
    engine.open(an_open([1]), told.append)
    for _ in range(PASSES_PER_SHADOW_PASS):
        engine.step()
    assert num_told_at_shadow == [PASSES_PER_SHADOW_PASS]
