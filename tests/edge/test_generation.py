"""One generation over a verifier in memory: text, stops, statistics, and what may go wrong."""

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fake_link import FakeLink, FakeSession
from generating import ANSWER, PROMPT, Broken, Oracle, Silent, generate

from outrider_common.errors import CapacityError, MismatchError
from outrider_common.messages import Commit, FinishReason, ServerEvent
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_common.tree import DraftNode
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.estimators import Estimators
from outrider_edge.policies import POLICIES
from outrider_edge.proposer import Draft
from outrider_edge.service import cancelled


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.mark.parametrize(
    ("name", "own_guesses", "waits"),
    [("auto", True, False), ("cloud", False, False), ("stop-and-wait", False, True)],
)
async def test_opening_says_what_the_policy_lets_the_verifier_do(
    executor: ThreadPoolExecutor, name: str, own_guesses: bool, waits: bool
) -> None:
    link = FakeLink(ANSWER)
    result = await generate(executor, link, Oracle(), policy=POLICIES[name])
    assert result.tokens == tuple(ANSWER)
    message = link.sessions[0].message
    assert (message.own_guesses, message.waits_for_drafts) == (own_guesses, waits)


@pytest.mark.parametrize("proposer", [Oracle(), Oracle([1] * 50), Silent(), Broken()])
async def test_the_answer_does_not_depend_on_the_proposer(
    executor: ThreadPoolExecutor, proposer: Any
) -> None:
    result = await generate(executor, FakeLink(ANSWER), proposer)
    assert result.text == "It rides ahead of the convoy and signals back."
    assert result.tokens == tuple(ANSWER)
    assert result.finish_reason is FinishReason.LENGTH


async def test_good_drafts_are_sent_accepted_and_counted(executor: ThreadPoolExecutor) -> None:
    link = FakeLink(ANSWER)
    result = await generate(executor, link, Oracle())
    stats = result.stats
    drafted = [record for record in result.records if record.origin is TokenOrigin.DRAFTED]
    assert stats.num_accepted_tokens == len(drafted) > 0
    assert stats.num_tokens == len(ANSWER)
    assert stats.num_passes < len(ANSWER)
    assert stats.acceptance_rate == 1.0
    assert sum(stats.num_accepted_tokens_per_pos) == stats.num_accepted_tokens
    assert stats.num_draft_tokens >= stats.num_accepted_tokens
    assert (stats.bytes_up, stats.bytes_down) == (
        link.sessions[0].bytes_up,
        link.sessions[0].bytes_down,
    )
    assert all(record.proposer == "oracle" for record in drafted)
    assert stats.time_to_first_token_s is not None
    assert 0 < stats.time_to_first_token_s <= stats.duration_s


async def test_tokens_are_told_as_they_are_committed(executor: ThreadPoolExecutor) -> None:
    seen: list[TokenRecord] = []
    result = await generate(executor, FakeLink(ANSWER), Silent(), seen.append)
    assert tuple(seen) == result.records
    assert "".join(record.text for record in seen) == result.text
    times = [record.committed_at_s for record in seen]
    assert times == sorted(times)


@pytest.mark.parametrize("proposer", [Oracle(), Silent()])
async def test_a_stop_string_ends_the_answer_before_it_and_cancels_the_session(
    executor: ThreadPoolExecutor, proposer: Any
) -> None:
    link = FakeLink(ANSWER)
    result = await generate(executor, link, proposer, stop_strings=("convoy", "signals"))
    assert result.text == "It rides ahead of the "
    assert result.finish_reason is FinishReason.STOP
    assert link.sessions[0].is_cancelled
    assert len(result.tokens) == len("It rides ahead of the convoy")


async def test_text_held_back_for_a_stop_string_comes_out_at_the_end(
    executor: ThreadPoolExecutor,
) -> None:
    result = await generate(executor, FakeLink(ANSWER), Oracle(), stop_strings=("back.!",))
    assert result.text.endswith("signals back.")


async def test_a_proposer_is_asked_again_after_it_was_silent(
    executor: ThreadPoolExecutor,
) -> None:
    class LateOracle(Oracle):
        def draft(self, start: int, max_depth: int) -> Draft:
            return Draft() if start < 10 else super().draft(start, max_depth)

    result = await generate(executor, FakeLink(ANSWER), LateOracle())
    assert result.stats.num_accepted_tokens > 0


async def test_a_slow_drafter_does_not_hold_up_the_answer(executor: ThreadPoolExecutor) -> None:
    link = FakeLink(ANSWER)
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Stuck:
        def expand(
            self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
        ) -> list[Draft]:
            asyncio.run_coroutine_threadsafe(done.wait(), loop).result(timeout=30)
            return [Draft() for _ in paths]

    result = await generate(executor, link, Stuck())
    done.set()
    assert result.tokens == tuple(ANSWER)


async def test_the_stream_is_closed_whatever_happens(executor: ThreadPoolExecutor) -> None:
    class Refusing(FakeSession):
        async def receive(self) -> ServerEvent | None:
            raise CapacityError("all sessions are taken")

    link = FakeLink(ANSWER, Refusing)
    with pytest.raises(CapacityError, match="all sessions"):
        await generate(executor, link, Oracle())
    assert link.sessions[0].is_closed


async def test_the_pace_is_estimated_and_told_at_the_end(
    executor: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "outrider_edge.generation")
    estimators = Estimators()
    await generate(executor, FakeLink(ANSWER), Oracle(at_a_time=1), estimators=estimators)
    estimates = estimators.estimates()
    assert estimates.round_trip_s is not None
    assert estimates.interval_s is not None
    assert estimates.interval_s > 0
    assert estimates.draft_s is not None
    assert estimates.draft_s > 0
    (told,) = [r for r in caplog.records if r.getMessage() == "generation_paced"]
    assert vars(told)["fields"]["interval_s"] == estimates.interval_s


@pytest.mark.parametrize(("num_prompt_tokens", "counts"), [(1, True), (10, False)])
async def test_a_draft_before_which_a_prompt_was_read_says_nothing_of_the_pace(
    executor: ThreadPoolExecutor, num_prompt_tokens: int, counts: bool
) -> None:
    class Once:
        num_calls = 0

        def expand(
            self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
        ) -> list[Draft]:
            self.num_calls += 1
            return [Draft() for _ in paths]

    estimators, proposer = Estimators(), Once()
    link = FakeLink(ANSWER)
    link.pause.clear()
    asyncio.get_running_loop().call_later(0.1, link.pause.set)
    prompt = PROMPT * num_prompt_tokens
    await generate(executor, link, proposer, prompt=prompt, max_tokens=2, estimators=estimators)
    assert proposer.num_calls == 1
    assert (estimators.estimates().draft_s is not None) is counts


async def test_what_one_generation_learns_of_a_proposer_the_next_one_knows(
    executor: ThreadPoolExecutor,
) -> None:
    calibration = Calibration()
    kind = GuessKind("oracle", rank=0, depth=1, regime="greedy exact")
    before = calibration.chance(kind, 0.9)
    for _ in range(3):
        await generate(executor, FakeLink(ANSWER), Oracle([1] * 50), calibration=calibration)
    assert calibration.chance(kind, 0.9) < before


async def test_an_edge_without_credit_is_silent(executor: ThreadPoolExecutor) -> None:
    class Poor(FakeSession):
        def commit(self) -> ServerEvent | None:
            event = super().commit()
            return replace(event, credit=0) if isinstance(event, Commit) else event

    result = await generate(executor, FakeLink(ANSWER, Poor), Oracle())
    assert result.tokens == tuple(ANSWER)
    assert result.stats.num_draft_tokens <= 8  # what was drafted before the first commit


async def test_a_drafter_slower_than_the_verifier_is_given_up_and_counted(
    executor: ThreadPoolExecutor,
) -> None:
    class Slow(Oracle):
        def draft(self, start: int, max_depth: int) -> Draft:
            time.sleep(0.05)  # some twenty passes of the verifier
            return super().draft(start, max_depth)

    answer = ANSWER * 3
    result = await generate(executor, FakeLink(answer), Slow(at_a_time=1), max_tokens=len(answer))
    assert result.tokens == tuple(answer)
    assert result.stats.num_rests >= 1


async def test_nodes_that_wait_for_a_run_that_hangs_are_sent_all_the_same(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider_edge.session.may_wait", lambda _forecast, _until_s: True)
    arrived, loop = threading.Event(), asyncio.get_running_loop()

    class Watched(FakeSession):
        async def extend(self, nodes: Sequence[DraftNode]) -> None:
            await super().extend(nodes)
            arrived.set()

    class Hangs(Oracle):
        num_calls = 0

        def draft(self, start: int, max_depth: int) -> Draft:
            self.num_calls += 1
            if self.num_calls == 3:
                assert arrived.wait(30)
                loop.call_soon_threadsafe(link.pause.set)
            return super().draft(start, max_depth)

    link = FakeLink(ANSWER, Watched)
    link.pause.clear()
    result = await generate(executor, link, Hangs(at_a_time=1))
    assert result.tokens == tuple(ANSWER)


async def test_a_verifier_that_sends_no_log_probabilities_is_found_out(
    executor: ThreadPoolExecutor,
) -> None:
    with pytest.raises(MismatchError, match="sends no log-probabilities"):
        await generate(executor, FakeLink(ANSWER), Oracle(), num_top_logprobs=0)


@pytest.mark.parametrize("proposer", [Oracle, Silent])
async def test_the_drafters_memory_is_free_as_soon_as_the_answer_is_complete(
    executor: ThreadPoolExecutor, proposer: Any
) -> None:
    """And not when the garbage collector comes: the next request would take memory beside it."""
    drafting = proposer()
    gone = weakref.ref(drafting)
    gc.collect()
    gc.disable()
    try:
        generating = generate(executor, FakeLink(ANSWER), drafting)
        del drafting
        await generating
        assert gone() is None
    finally:
        gc.enable()


async def test_it_is_free_as_soon_as_an_answer_is_given_up_too(
    executor: ThreadPoolExecutor,
) -> None:
    drafting, link = Oracle(), FakeLink(ANSWER)
    gone = weakref.ref(drafting)
    link.pause.clear()
    gc.collect()
    gc.disable()
    try:
        generating = asyncio.create_task(generate(executor, link, drafting))
        del drafting
        while not link.sessions:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        await cancelled([generating])
        del generating
        while gone():  # noqa: ASYNC110 - a draft may be under way; the test's limit is the only one
            await asyncio.sleep(0.01)
    finally:
        gc.enable()
