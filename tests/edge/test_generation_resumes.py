"""A generation whose sessions break: the same tokens, each told once, whatever happens when."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest
from fake_link import FakeLink, FakeSession
from generating import ANSWER, Oracle, Silent, generate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outrider_common.errors import (
    BrokenOffError,
    CapacityError,
    InvalidPromptError,
    OutriderError,
    UnavailableError,
)
from outrider_common.messages import (
    Commit,
    FinishReason,
    GoAway,
    OpenSession,
    Pong,
    ServerEvent,
)
from outrider_common.records import TokenRecord
from outrider_edge.proposer import Draft, Proposer
from outrider_edge.resuming import Patience
from outrider_edge.tracing import TraceRecorder

TEXT = "It rides ahead of the convoy and signals back."
SOON = Patience(open_s=0.3, resume_s=0.3, heartbeat_s=0)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@dataclass(frozen=True)
class Break:
    """How a session ends: after so many events, with an error, a go-away or just so: None."""

    after: int
    how: OutriderError | GoAway | None


class Breaking(FakeSession):
    """Breaks as it is told."""

    def __init__(
        self, message: OpenSession, answer: Sequence[int], pause: asyncio.Event, fault: Break
    ) -> None:
        super().__init__(message, answer, pause)
        self.fault = fault
        self.num_events = 0

    async def receive(self) -> ServerEvent | None:
        self.num_events += 1
        if self.num_events <= self.fault.after:
            return await super().receive()
        if isinstance(self.fault.how, OutriderError):
            raise self.fault.how
        return self.fault.how


def a_link(*faults: Break, then: Break | None = None, answer: Sequence[int] = ANSWER) -> FakeLink:
    """Its first sessions break, and the others, if there is a fault for them."""
    left = list(faults)

    def make(message: OpenSession, text: Sequence[int], pause: asyncio.Event) -> FakeSession:
        fault = left.pop(0) if left else then
        return Breaking(message, text, pause, fault) if fault else FakeSession(message, text, pause)

    return FakeLink(answer, make)


GONE = UnavailableError("the link broke")


@pytest.mark.parametrize("how", [GONE, OutriderError("it failed"), None, GoAway("drains", 9)])
@pytest.mark.parametrize("proposer", [Oracle(), Silent()])
async def test_a_session_that_breaks_is_gone_on_with(
    executor: ThreadPoolExecutor, proposer: Proposer, how: OutriderError | GoAway | None
) -> None:
    link, seen = a_link(Break(3, how)), list[TokenRecord]()
    link.has_alternative = isinstance(how, GoAway)
    result = await generate(executor, link, proposer, seen.append, patience=SOON)
    assert result.text == TEXT
    assert tuple(seen) == result.records
    first, second = (session.message for session in link.sessions)
    assert len(second.prefix) > len(first.prefix)
    assert second == replace(first, prefix=second.prefix)
    assert result.stats.num_resumes == 1
    assert all(session.is_closed for session in link.sessions)


async def test_a_go_away_with_nowhere_to_go_does_not_end_the_answer(
    executor: ThreadPoolExecutor,
) -> None:
    class Leaving(FakeSession):
        has_told = False

        def commit(self) -> ServerEvent | None:
            if self.tree.num_committed > 5 and not self.has_told:
                self.has_told = True
                return GoAway("draining", 1000)
            return super().commit()

    link = FakeLink(ANSWER, Leaving)
    assert (await generate(executor, link, Oracle())).tokens == tuple(ANSWER)
    assert len(link.sessions) == 1


async def test_figures_are_sums_over_all_sessions(executor: ThreadPoolExecutor) -> None:
    recorder = TraceRecorder()
    link = a_link(Break(2, GONE), Break(3, GONE))
    result = await generate(executor, link, Oracle(), recorder=recorder, patience=SOON)
    assert result.stats.bytes_up == sum(session.bytes_up for session in link.sessions)
    assert result.stats.bytes_down == sum(session.bytes_down for session in link.sessions)
    assert result.stats.num_tokens == len(ANSWER)
    passes = [record.pass_index for record in result.records]
    assert passes == sorted(passes)
    assert passes[-1] == result.stats.num_passes - 1
    trace = recorder.trace(round_trip_s=0.0)
    ids = [node.node_id for node in trace.nodes]
    assert len(ids) == len(set(ids)) == result.stats.num_draft_tokens


async def test_an_answer_that_cannot_go_on_is_one_error_with_the_text_so_far(
    executor: ThreadPoolExecutor,
) -> None:
    link, seen = a_link(Break(3, GONE), then=Break(0, GONE)), list[TokenRecord]()
    with pytest.raises(BrokenOffError, match=r"after 2 tokens .*the link broke") as caught:
        await generate(executor, link, Silent(), seen.append, patience=SOON)
    assert caught.value.text == "It" == "".join(record.text for record in seen)
    assert caught.value.num_tokens == 2


async def test_a_refusal_is_not_asked_again(executor: ThreadPoolExecutor) -> None:
    link = a_link(then=Break(0, InvalidPromptError("too long")))
    with pytest.raises(InvalidPromptError):
        await generate(executor, link, Silent(), patience=SOON)
    assert len(link.sessions) == 1


async def test_a_full_verifier_is_waited_for_in_the_middle_of_an_answer(
    executor: ThreadPoolExecutor,
) -> None:
    link = a_link(Break(3, GONE), Break(0, CapacityError("full", 0.01)))
    assert (await generate(executor, link, Silent(), patience=SOON)).text == TEXT


async def test_the_first_session_is_tried_again_for_a_while(executor: ThreadPoolExecutor) -> None:
    link = a_link(Break(0, GONE), Break(0, None))
    result = await generate(executor, link, Silent(), patience=SOON)
    assert result.text == TEXT
    assert result.stats.num_resumes == 0


async def test_a_verifier_that_never_opens_the_session_is_given_up(
    executor: ThreadPoolExecutor,
) -> None:
    class Mute(FakeSession):
        async def receive(self) -> ServerEvent | None:
            await asyncio.sleep(3600)
            return None

    with pytest.raises(UnavailableError, match=r"not opened the session within 0\.05 s"):
        await generate(executor, FakeLink(ANSWER, Mute), Silent(), patience=Patience(open_s=0.05))


@pytest.mark.parametrize("changes", [{}, {"max_tokens": 9}, {"stop_token_ids": (ord("y"),)}])
async def test_an_answer_whose_end_was_committed_but_not_said_is_complete(
    executor: ThreadPoolExecutor, changes: dict[str, object]
) -> None:
    class Endless(FakeSession):
        def commit(self) -> ServerEvent | None:
            event = super().commit()
            return replace(event, finish_reason=None) if isinstance(event, Commit) else GONE

    link = FakeLink(ANSWER, Endless)
    result = await generate(executor, link, Silent(), patience=SOON, **changes)
    expected = {"max_tokens": TEXT[:9], "stop_token_ids": TEXT[: TEXT.index("y") + 1]}
    assert result.text == expected.get(next(iter(changes), ""), TEXT)
    assert len(link.sessions) == 1
    stopped = "stop_token_ids" in changes
    assert result.finish_reason is (FinishReason.STOP if stopped else FinishReason.LENGTH)


async def test_a_proposer_is_never_asked_by_two_threads_at_once() -> None:
    class Slow(Oracle):
        num_inside = most_inside = 0

        def expand(
            self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
        ) -> list[Draft]:
            self.num_inside += 1
            self.most_inside = max(self.most_inside, self.num_inside)
            time.sleep(0.01)  # longer than two events of the verifier
            self.num_inside -= 1
            return super().expand(text, paths, max_depth)

    proposer = Slow()
    link = a_link(*[Break(2, GONE)] * 6)
    with ThreadPoolExecutor(4) as executor:
        result = await generate(executor, link, proposer, patience=SOON)
    assert result.text == TEXT
    assert len(link.sessions) > 3
    assert proposer.most_inside == 1


# Any breaks, at any event: nothing is missing, nothing comes twice.


def breaks() -> st.SearchStrategy[list[Break]]:
    hows = st.sampled_from([GONE, OutriderError("it failed"), None, GoAway("drains", 9)])
    # At least one commit each: an error that is not a break is forgiven once without a token.
    return st.lists(st.builds(Break, st.integers(2, 6), hows), max_size=8)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    faults=breaks(),
    drafts=st.sampled_from([Oracle(), Oracle([1] * 50), Silent(), Oracle(at_a_time=1)]),
    stop_strings=st.sampled_from([(), ("convoy",), ("back.!",), ("zzz", "signals back")]),
    max_tokens=st.integers(1, len(ANSWER)),
)
def test_the_answer_does_not_depend_on_breaks(
    faults: list[Break], drafts: Proposer, stop_strings: tuple[str, ...], max_tokens: int
) -> None:
    async def both() -> None:
        seen: list[TokenRecord] = []
        link = a_link(*faults)
        link.has_alternative = True
        request = {"stop_strings": stop_strings, "max_tokens": max_tokens}
        unbroken = await generate(executor, FakeLink(ANSWER), drafts, **request)
        broken = await generate(executor, link, drafts, seen.append, patience=SOON, **request)
        assert broken.text == unbroken.text
        assert broken.tokens == unbroken.tokens
        assert broken.finish_reason is unbroken.finish_reason
        assert tuple(seen) == broken.records
        positions = [record.position for record in seen]
        assert positions == list(range(1, len(positions) + 1))
        assert [one.text for one in broken.records] == [one.text for one in unbroken.records]

    with ThreadPoolExecutor(1) as executor:
        asyncio.run(both())


# A verifier that says nothing.


class Frozen(FakeSession):
    """Says nothing after its first commits, and answers pings or does not."""

    def __init__(
        self, message: OpenSession, answer: Sequence[int], pause: asyncio.Event, is_there: bool
    ) -> None:
        super().__init__(message, answer, pause)
        self.answers: asyncio.Queue[Pong] = asyncio.Queue()
        self.is_there = is_there
        self.num_events = 0

    async def ping(self) -> None:
        await super().ping()
        if self.is_there:
            self.answers.put_nowait(Pong())

    async def receive(self) -> ServerEvent | None:
        self.num_events += 1
        if self.num_events == 1:
            return replace(await super().receive(), answers_pings=True)  # type: ignore[type-var]
        is_over = self.num_pings >= 3
        return await super().receive() if self.num_events < 4 or is_over else await self.mute()

    async def mute(self) -> ServerEvent:
        return await self.answers.get()


def a_freezing_link(is_there: bool) -> FakeLink:
    """Its first session freezes."""
    left = [is_there]

    def make(message: OpenSession, text: Sequence[int], pause: asyncio.Event) -> FakeSession:
        if left:
            return Frozen(message, text, pause, left.pop())
        return FakeSession(message, text, pause)

    return FakeLink(ANSWER, make)


async def test_a_silent_verifier_is_left_and_its_connection_given_up(
    executor: ThreadPoolExecutor,
) -> None:
    link = a_freezing_link(is_there=False)
    patience = Patience(heartbeat_s=0.1)
    assert (await generate(executor, link, Silent(), patience=patience)).text == TEXT
    assert [session.is_given_up for session in link.sessions] == [True, False]
    assert link.sessions[0].num_pings == 1


async def test_a_verifier_that_answers_when_asked_is_waited_for(
    executor: ThreadPoolExecutor,
) -> None:
    link = a_freezing_link(is_there=True)
    patience = Patience(heartbeat_s=0.2)
    assert (await generate(executor, link, Silent(), patience=patience)).text == TEXT
    assert len(link.sessions) == 1
    assert link.sessions[0].num_pings == 3


async def test_without_a_heartbeat_nobody_is_asked(executor: ThreadPoolExecutor) -> None:
    link = a_freezing_link(is_there=False)
    answering = generate(executor, link, Silent(), patience=Patience(heartbeat_s=0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(answering, 0.5)
    assert link.sessions[0].num_pings == 0


@given(num_written=st.integers(0, len(ANSWER)), is_stopped=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_an_answer_that_was_written_in_part_before_is_completed(
    executor: ThreadPoolExecutor, num_written: int, is_stopped: bool
) -> None:
    stops = ("convoy",) if is_stopped else ()
    whole = await generate(executor, FakeLink(ANSWER), Silent(), stop_strings=stops)
    written, seen, link = whole.records[:num_written], list[TokenRecord](), FakeLink(ANSWER)
    result = await generate(
        executor, link, Oracle(), seen.append, stop_strings=stops, written=written
    )
    assert (result.text, result.tokens) == (whole.text, whole.tokens)
    assert result.finish_reason is whole.finish_reason
    assert result.records == (*written, *seen)
    assert result.stats.num_tokens == len(whole.tokens)
    times_s = [record.committed_at_s for record in result.records]
    passes = [record.pass_index for record in result.records]
    assert times_s == sorted(times_s)
    assert passes == sorted(passes)
    assert len(link.sessions) == (len(written) < len(whole.records))
    assert result.stats.num_resumes == (0 < len(written) < len(whole.records))
