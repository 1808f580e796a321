"""The answers of a daemon and of a runtime in this process are the same to a chat."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest
from api_client import a_serving
from fake_runtime import ANSWER, FakeRuntime
from http_daemon import a_daemon_client
from weak_edge import TEXT, Absence, WeakLink, a_weak_edge, with_errors

from outrider_common.errors import InvalidPromptError
from outrider_common.messages import FinishReason
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge import runtime as runtime_module
from outrider_edge.chat.figures import AnswerFigures
from outrider_edge.chat.sources import (
    AnswerSource,
    Correction,
    DaemonSource,
    Piece,
    RuntimeSource,
    Unverified,
)
from outrider_edge.offline import OfflineQueue
from outrider_edge.runtime import EdgeRuntime

HI = [{"role": "user", "content": "Hi"}]
SAMPLING = SamplingSettings(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, seed=2**64 - 1)


def in_process(runtime: FakeRuntime) -> RuntimeSource:
    return RuntimeSource(cast(EdgeRuntime, runtime), "fake")


async def answered(source: AnswerSource, sampling: SamplingSettings) -> tuple[str, AnswerFigures]:
    pieces: list[Piece] = []
    figures = await source.answer(HI, sampling, pieces.append)
    return "".join(map(str, pieces)), figures


async def test_both_give_the_same_answer_and_figures() -> None:
    runtime = FakeRuntime()
    runtime.estimators.passed(0.03, 0.001, num_rows=1)
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        by_daemon = await answered(DaemonSource(client, "fake"), SAMPLING)
    assert by_daemon == await answered(in_process(runtime), SAMPLING)
    assert by_daemon[0] == ANSWER
    first, second = runtime.requests
    assert first == second
    assert first.sampling.seed == 2**64 - 1
    assert first.sampling.top_k == 7


async def test_what_is_cut_is_said_by_both() -> None:
    runtime, cut = FakeRuntime(), SamplingSettings(max_tokens=3)
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        for source in (DaemonSource(client, "fake"), in_process(runtime)):
            text, figures = await answered(source, cut)
            assert text == ANSWER[:3]
            assert figures.finish_reason is FinishReason.LENGTH


async def test_cancelling_stops_the_answer_of_a_daemon() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        asking = asyncio.create_task(answered(DaemonSource(client, "fake"), SAMPLING))
        await runtime.begun.get()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while runtime.num_running:  # noqa: ASYNC110 - the test's own time limit is the only one
            await asyncio.sleep(0.01)


async def test_a_chat_that_is_too_long_is_an_invalid_prompt() -> None:
    async with a_daemon_client(a_serving(FakeRuntime(), port=0)) as client:
        source = DaemonSource(client, "fake")
        with pytest.raises(InvalidPromptError, match="takes at most"):
            await source.answer([{"role": "user", "content": "x" * 9999}], SAMPLING, print)


async def test_a_daemon_tells_what_is_not_verified_and_what_is_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime_module, "ALONE_AFTER_S", 0.0)
    pieces: list[Piece] = []
    with ThreadPoolExecutor(1) as executor:
        runtime = a_weak_edge(executor, WeakLink([Absence(0, 200)]), with_errors([20]))
        serving = a_serving(runtime, port=0, offline="draft-only")
        serving.offline = OfflineQueue(8, 30, retry_s=0.001)
        async with a_daemon_client(serving) as client:
            sampling = SamplingSettings(max_tokens=len(TEXT))
            figures = await DaemonSource(client, "fake").answer(HI, sampling, pieces.append)
    alone = "".join(piece.text for piece in pieces if isinstance(piece, Unverified))
    assert alone.startswith(TEXT[:20] + "#")
    assert [piece.since for piece in pieces if isinstance(piece, Correction)] == [20]
    assert figures.finish_reason is FinishReason.LENGTH


async def test_an_answer_that_nobody_verified_has_no_reason_to_end() -> None:
    with ThreadPoolExecutor(1) as executor:
        runtime = a_weak_edge(executor, WeakLink([Absence(0, 10**9)]))
        serving = a_serving(runtime, port=0, offline="draft-only", offline_verify_s=0)
        async with a_daemon_client(serving) as client:
            sampling = SamplingSettings(max_tokens=len(TEXT))
            pieces: list[Piece] = []
            figures = await DaemonSource(client, "fake").answer(HI, sampling, pieces.append)
    assert all(isinstance(piece, Unverified) for piece in pieces)
    assert figures.finish_reason is None
    assert "not verified after 0 tokens" in figures.line(256)
