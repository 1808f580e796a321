"""Answers that go on without a verifier: what is verified is the target's, whatever was drafted."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from fake_link import FakeLink, FakeSession
from generating import ANSWER, PROMPT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from weak_edge import TEXT, WRONG, Absence, WeakLink, a_weak_edge, answer, with_errors

from outrider_common.errors import (
    BrokenOffError,
    CapacityError,
    InvalidPromptError,
    UnavailableError,
)
from outrider_common.messages import FinishReason, OpenSession, ServerEvent
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_edge import runtime as runtime_module
from outrider_edge.generation import GenerationResult
from outrider_edge.resuming import Patience
from outrider_edge.told_choice import text_of
from outrider_edge.unverified import Token, UnverifiedTail, UnverifiedToken

FOR_EVER = 10**9


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "ALONE_AFTER_S", 0.0)


def unverified(told: list[Token]) -> list[UnverifiedToken]:
    return [token for token in told if isinstance(token, UnverifiedToken)]


def verified(told: list[Token]) -> list[TokenRecord]:
    return [token for token in told if isinstance(token, TokenRecord)]


def what_is_left(told: list[Token]) -> list[UnverifiedToken]:
    """The unverified tokens behind the verified ones, by what was told."""
    tail = UnverifiedTail()
    for token in told:
        if isinstance(token, TokenRecord):
            tail.settle(token)
        else:
            assert token.position == len(PROMPT) + len(verified(told[: told.index(token)])) + len(
                tail.tokens
            )
            tail.add(token)
    return list(tail.tokens)


ABSENCES = st.lists(
    st.builds(Absence, after=st.integers(0, 9), num_asked=st.integers(1, 12)), max_size=4
)


@given(
    absences=ABSENCES,
    wrong=st.sets(st.integers(0, len(ANSWER) - 1), max_size=4),
    stop=st.sampled_from([(), ("convoy",), ("#",), (" a", "ah")]),
    max_tokens=st.integers(1, len(ANSWER)),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_whenever_verifiers_are_away_the_answer_is_the_targets_in_the_end(
    executor: ThreadPoolExecutor,
    absences: list[Absence],
    wrong: set[int],
    stop: tuple[str, ...],
    max_tokens: int,
) -> None:
    request = {"stop_strings": stop, "max_tokens": max_tokens}
    unbroken = await answer(a_weak_edge(executor, FakeLink(ANSWER)), **request)
    told: list[Token] = []
    runtime = a_weak_edge(executor, WeakLink(absences), with_errors(sorted(wrong)))
    result = await answer(runtime, told.append, **request)
    assert result.is_verified
    assert (result.text, result.tokens) == (unbroken.text, unbroken.tokens)
    assert result.finish_reason is unbroken.finish_reason
    assert tuple(verified(told)) == result.records
    assert what_is_left(told) == []


async def test_without_a_verifier_the_drafter_writes_at_once(executor: ThreadPoolExecutor) -> None:
    told: list[Token] = []
    link = WeakLink([Absence(0, FOR_EVER)])
    result = await answer(a_weak_edge(executor, link), told.append, verify_s=0)
    assert not result.is_verified
    assert (result.text, result.whole_text) == ("", TEXT)
    assert result.unverified == tuple(unverified(told)) == tuple(told)
    assert result.stats.num_tokens == result.stats.num_accepted_tokens == 0
    assert not link.sessions


async def test_what_was_verified_before_the_break_stays_verified(
    executor: ThreadPoolExecutor,
) -> None:
    told: list[Token] = []
    link = WeakLink([Absence(4, FOR_EVER)])
    result = await answer(a_weak_edge(executor, link), told.append, verify_s=0)
    assert result.text == text_of(verified(told)) != ""
    assert TEXT.startswith(result.text)
    assert result.whole_text == TEXT
    assert result.records == tuple(verified(told))
    assert result.stats.num_tokens == len(result.records)
    assert result.unverified == tuple(what_is_left(told))


async def test_a_right_text_is_checked_as_drafts_and_told_once_more_as_verified(
    executor: ThreadPoolExecutor,
) -> None:
    """The verifier comes when all is written; its passes take the text as accepted drafts."""
    told: list[Token] = []
    link = WeakLink([Absence(0, 300)])
    result = await answer(a_weak_edge(executor, link), told.append)
    assert text_of(told[: len(ANSWER)]) == TEXT
    assert [record.token for record in verified(told)] == ANSWER
    assert result.stats.num_passes < len(ANSWER) / 2
    drafted = [one for one in result.records if one.origin is TokenOrigin.DRAFTED]
    assert {record.proposer for record in drafted} == {"recall"}


async def test_a_wrong_token_is_corrected_and_the_rest_drafted_again(
    executor: ThreadPoolExecutor,
) -> None:
    told: list[Token] = []
    runtime = a_weak_edge(executor, WeakLink([Absence(0, 300)]), with_errors([10]))
    result = await answer(runtime, told.append)
    assert unverified(told)[10].token == WRONG
    assert (result.text, result.is_verified) == (TEXT, True)


async def test_what_was_complete_is_written_anew_behind_a_correction(
    executor: ThreadPoolExecutor,
) -> None:
    """The verifier corrects a complete text, and is gone again."""
    link = WeakLink([Absence(0, FOR_EVER), Absence(6, FOR_EVER)])  # after five commits
    told: list[Token] = []

    def tell(token: Token) -> None:
        told.append(token)
        if len(told) == len(ANSWER):
            link.num_refusals = 0

    result = await answer(a_weak_edge(executor, link, with_errors([3])), tell, verify_s=1.0)
    assert 4 < len(result.text) < len(TEXT)
    assert result.whole_text == TEXT


async def test_a_stop_string_ends_what_is_written_alone(executor: ThreadPoolExecutor) -> None:
    link = WeakLink([Absence(3, FOR_EVER)])
    runtime = a_weak_edge(executor, link)
    result = await answer(runtime, verify_s=0, stop_strings=("convoy",))
    assert result.whole_text == TEXT[: TEXT.index("convoy")]
    assert result.finish_reason is FinishReason.STOP


async def test_a_stop_string_that_the_verifier_does_not_write_ends_nothing(
    executor: ThreadPoolExecutor,
) -> None:
    runtime = a_weak_edge(executor, WeakLink([Absence(0, 100)]), with_errors([5]))
    result = await answer(runtime, stop_strings=("#",))
    assert (result.text, result.is_verified) == (TEXT, True)


async def test_nothing_is_written_beyond_the_most_tokens(executor: ThreadPoolExecutor) -> None:
    runtime = a_weak_edge(executor, WeakLink([Absence(0, FOR_EVER)]))
    result = await answer(runtime, verify_s=0, max_tokens=7)
    assert result.whole_text == TEXT[:7]
    assert result.finish_reason is FinishReason.LENGTH


async def test_a_text_that_was_kept_is_gone_on_with(executor: ThreadPoolExecutor) -> None:
    whole = await answer(a_weak_edge(executor, FakeLink(ANSWER)))
    runtime = a_weak_edge(executor, WeakLink([Absence(0, FOR_EVER)]))
    result = await answer(runtime, verify_s=0, written=whole.records[:9])
    assert result.records == whole.records[:9]
    assert result.whole_text == TEXT
    late = whole.records[8].committed_at_s
    assert all(token.drafted_at_s >= late for token in result.unverified)


async def waits(runtime: runtime_module.EdgeRuntime, **changes: object) -> GenerationResult:
    told: list[Token] = []
    hasty = replace(runtime, patience=Patience(open_s=0.1, resume_s=0.1))
    result = await answer(hasty, told.append, verify_s=0, **changes)
    assert not unverified(told)
    return result


async def test_an_edge_without_a_draft_model_waits(executor: ThreadPoolExecutor) -> None:
    runtime = a_weak_edge(executor, WeakLink([Absence(3, 20)]), drafted=None)
    assert (await waits(runtime)).text == TEXT


async def test_a_draft_model_that_stops_leaves_the_rest_to_a_verifier(
    executor: ThreadPoolExecutor,
) -> None:
    told: list[Token] = []
    runtime = a_weak_edge(executor, WeakLink([Absence(0, 300)]), ANSWER[:5])
    result = await answer(runtime, told.append, verify_s=0)
    assert len(unverified(told)) == 5
    assert (result.text, result.is_verified) == (TEXT, True)


@pytest.mark.parametrize("num_verified", [0, 3])
async def test_a_text_that_is_not_complete_in_time_breaks_off(
    executor: ThreadPoolExecutor, num_verified: int
) -> None:
    runtime = a_weak_edge(executor, WeakLink([Absence(num_verified, FOR_EVER)]), ANSWER[:5])
    with pytest.raises(UnavailableError, match=r"No verifier was there for 0\.05 s") as caught:
        await answer(runtime, timeout_s=0.05)
    assert isinstance(caught.value, BrokenOffError) == (num_verified > 0)
    if isinstance(caught.value, BrokenOffError):
        assert TEXT.startswith(caught.value.text)


@pytest.mark.parametrize("refusal", [InvalidPromptError("no"), CapacityError("full")])
async def test_what_a_verifier_refuses_is_refused(
    executor: ThreadPoolExecutor, refusal: Exception
) -> None:
    class Refusing(FakeLink):
        has_alternative = True

        async def open(self, message: OpenSession, max_message_bytes: int) -> FakeSession:
            self.has_alternative = False
            raise refusal

    told: list[Token] = []
    with pytest.raises(type(refusal)):
        await answer(a_weak_edge(executor, Refusing(ANSWER)), told.append)
    assert not told


async def test_a_verifier_that_answers_but_takes_no_session_does_not_keep_the_drafter_from_writing(
    executor: ThreadPoolExecutor,
) -> None:
    class Teasing(FakeLink):
        async def open(self, message: OpenSession, max_message_bytes: int) -> FakeSession:
            raise UnavailableError("not yet")

    result = await answer(a_weak_edge(executor, Teasing(ANSWER)), verify_s=0.05)
    assert result.whole_text == TEXT


async def test_a_verifier_that_is_slow_to_open_gets_longer_each_time(
    executor: ThreadPoolExecutor,
) -> None:
    """As it would without a drafter that writes alone."""

    class Slow(FakeLink):
        num_opened = 0

        async def open(self, message: OpenSession, max_message_bytes: int) -> FakeSession:
            self.num_opened += 1
            return await super().open(message, max_message_bytes)

    class Opening(FakeSession):
        async def receive(self) -> ServerEvent | None:
            if not self.is_opened:
                await asyncio.sleep(0.15)
            return await super().receive()

    link = Slow(ANSWER, Opening)
    patient = Patience(open_s=5.0, resume_s=5.0, heartbeat_s=0.05)
    runtime = replace(a_weak_edge(executor, link), patience=patient)
    result = await answer(runtime)
    assert (result.text, result.is_verified) == (TEXT, True)
    assert link.num_opened > 1


async def test_who_goes_leaves_nothing_running(executor: ThreadPoolExecutor) -> None:
    begun = asyncio.Event()
    runtime = a_weak_edge(executor, WeakLink([Absence(0, FOR_EVER)]))
    answering = asyncio.create_task(answer(runtime, lambda _token: begun.set()))
    await begun.wait()
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}
