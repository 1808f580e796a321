"""Requests with an Idempotency-Key: answered once, whoever comes again, and after a restart."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_client import CHAT, COMPLETIONS, HI, a_client, a_serving, error_of, events_of, text_of
from fake_runtime import ANSWER, FakeRuntime

from outrider_common.errors import InvalidPromptError, UnavailableError
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.journal.desk import AnswerDesk
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.serving import Serving

KEY = {"Idempotency-Key": "4b1d"}
STREAM = HI | {"stream": True}
BOUNDS = Bounds(max_answers=8, max_bytes=1 << 20, max_age_s=60)
HALF = (len(ANSWER) + 1) // 2


@asynccontextmanager
async def a_daemon(
    directory: Path,
    runtime: ServingRuntime | None,
    *,
    linger_s: float = 30,
    bounds: Bounds = BOUNDS,
) -> AsyncIterator[tuple[httpx2.AsyncClient, Serving]]:
    """The API of a daemon that keeps a journal there, until it stops."""
    serving = a_serving(runtime, max_concurrent_requests=4)
    serving.answers = AnswerDesk(Journal(directory / "journal", bounds), linger_s)
    running = asyncio.create_task(serving.answers.run())
    try:
        async with a_client(serving) as client:
            yield client, serving
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def ask(
    client: httpx2.AsyncClient, body: dict[str, Any] = HI, route: str = CHAT
) -> httpx2.Response:
    return await client.post(route, json=body, headers=KEY)


def half_written(runtime: FakeRuntime | None = None) -> FakeRuntime:
    runtime = runtime or FakeRuntime()
    runtime.pause.clear()
    return runtime


async def until_free(serving: Serving) -> None:
    while serving.slots.num_taken:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.01)


async def test_a_request_that_comes_again_gets_the_same_answer(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, runtime) as (client, _):
        first, second = await ask(client), await ask(client)
    assert first.json()["choices"][0]["message"]["content"] == ANSWER
    assert second.json() == first.json()  # its name, its time, its seed and its figures, too
    assert len(runtime.requests) == 1


async def test_without_a_key_each_request_is_answered_anew(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, runtime) as (client, _):
        await client.post(CHAT, json=HI)
        await client.post(CHAT, json=HI)
    assert len(runtime.requests) == 2
    assert not list((tmp_path / "journal").glob("*.answer"))


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (CHAT, HI | {"n": 2, "logprobs": True, "top_logprobs": 1}),
        (COMPLETIONS, {"model": "fake", "prompt": ["Hi", "Ho"], "n": 2, "logprobs": 1}),
    ],
)
async def test_a_complete_answer_needs_no_verifier_after_a_restart(
    tmp_path: Path, route: str, body: dict[str, Any]
) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as (client, _):
        first = await ask(client, body, route)
    async with a_daemon(tmp_path, None) as (client, _):
        assert (await ask(client, body, route)).json() == first.json()
        other = await client.post(route, json=body, headers={"Idempotency-Key": "other"})
        assert other.status_code == 503


async def test_a_stream_is_told_from_its_beginning(tmp_path: Path) -> None:
    body = STREAM | {"logprobs": True, "stream_options": {"include_usage": True}}
    async with a_daemon(tmp_path, FakeRuntime()) as (client, _):
        first = events_of((await ask(client, body)).text)
    async with a_daemon(tmp_path, None) as (client, _):
        second = events_of((await ask(client, body)).text)
    assert text_of(second) == ANSWER
    assert second[-2:] == first[-2:]
    assert second[0] == first[0]


async def test_who_comes_while_it_is_written_reads_along(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime) as (client, serving):
        asking = [asyncio.create_task(ask(client, STREAM)) for _ in range(3)]
        await runtime.begun.get()
        await asyncio.sleep(0.02)
        assert serving.slots.num_taken == 1
        runtime.pause.set()
        texts = [text_of(events_of((await one).text)) for one in asking]
    assert texts == [ANSWER] * 3
    assert len(runtime.requests) == 1


@pytest.mark.parametrize("body", [HI, STREAM, HI | {"n": 2}])
async def test_a_restarted_daemon_goes_on_where_the_other_one_was(
    tmp_path: Path, body: dict[str, Any]
) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime) as (client, _):
        asking = asyncio.create_task(ask(client, body))
        await runtime.begun.get()
        await asyncio.sleep(0.02)
    cut_off = await asking
    assert ANSWER not in cut_off.text
    again = FakeRuntime()
    async with a_daemon(tmp_path, again) as (client, _):
        response = await ask(client, body)
    assert [len(request.written) for request in again.requests] == [HALF] * body.get("n", 1)
    assert [one.sampling for one in again.requests] == [one.sampling for one in runtime.requests]
    if body.get("stream"):
        assert text_of(events_of(response.text)) == ANSWER
    else:
        contents = [choice["message"]["content"] for choice in response.json()["choices"]]
        assert contents == [ANSWER] * body.get("n", 1)


async def test_a_choice_that_was_complete_is_not_written_again(tmp_path: Path) -> None:
    class SecondWaits(FakeRuntime):
        async def _generate(self, request: Any, *rest: Any) -> Any:
            if request.sampling.seed == 6:
                await asyncio.Event().wait()
            return await super()._generate(request, *rest)

    body = HI | {"n": 2, "seed": 5}
    runtime = SecondWaits()
    async with a_daemon(tmp_path, runtime) as (client, _):
        asking = asyncio.create_task(ask(client, body))
        await runtime.begun.get()
        await asyncio.sleep(0.02)
    await asking
    again = FakeRuntime()
    async with a_daemon(tmp_path, again) as (client, _):
        response = await ask(client, body)
    assert len(response.json()["choices"]) == 2
    assert [request.sampling.seed for request in again.requests] == [6]


async def test_with_other_settings_what_is_not_complete_begins_anew(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime) as (client, _):
        asking = asyncio.create_task(ask(client))
        await runtime.begun.get()
        await asyncio.sleep(0.02)
    await asking
    again = FakeRuntime()
    async with a_daemon(tmp_path, again) as (client, serving):
        serving.sampling = serving.sampling.model_copy(update={"temperature": 0.5})
        response = await ask(client)
    assert response.json()["choices"][0]["message"]["content"] == ANSWER
    assert again.requests[0].written == ()


@pytest.mark.parametrize("is_complete", [True, False])
async def test_a_key_stands_for_one_request(tmp_path: Path, is_complete: bool) -> None:
    runtime = FakeRuntime() if is_complete else half_written()
    async with a_daemon(tmp_path, runtime) as (client, _):
        asking = asyncio.create_task(ask(client))
        await runtime.begun.get()
        await asyncio.sleep(0.05)
        response = await ask(client, HI | {"temperature": 1})
        assert response.status_code == 422
        error = error_of(response)
        assert error["type"] == "idempotency_error"
        assert "'4b1d'" in error["message"]
        assert "another key" in error["message"]
        same = dict(reversed(HI.items()))  # the order of fields does not matter
        runtime.pause.set()
        assert (await ask(client, same)).json() == (await asking).json()


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_cannot_be_one_is_refused(tmp_path: Path, key: str) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as (client, _):
        response = await client.post(CHAT, json=HI, headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert error_of(response)["param"] == "Idempotency-Key"


async def test_what_could_not_begin_does_not_use_up_a_key(tmp_path: Path) -> None:
    runtime = FakeRuntime(error=InvalidPromptError("no"))
    async with a_daemon(tmp_path, runtime) as (client, _):
        assert (await ask(client)).status_code == 400
        runtime.error = None
        assert (await ask(client, HI | {"temperature": 1})).status_code == 200


async def test_an_answer_that_broke_off_is_gone_on_with(tmp_path: Path) -> None:
    runtime = FakeRuntime(error=UnavailableError("gone"), error_after=1)
    async with a_daemon(tmp_path, runtime) as (client, _):
        assert (await ask(client)).status_code == 503
        runtime.error = None
        assert (await ask(client)).json()["choices"][0]["message"]["content"] == ANSWER
    assert [len(request.written) for request in runtime.requests] == [0, HALF]


async def hang_up(client: httpx2.AsyncClient, runtime: FakeRuntime) -> None:
    """Ask, and go when half of it is written."""
    asking = asyncio.create_task(ask(client, STREAM))
    await runtime.begun.get()
    await asyncio.sleep(0.02)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_what_nobody_reads_is_written_on_for_a_while(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime) as (client, serving):
        await hang_up(client, runtime)
        runtime.pause.set()
        await until_free(serving)
        assert text_of(events_of((await ask(client, STREAM)).text)) == ANSWER
    assert len(runtime.requests) == 1


async def test_what_nobody_reads_for_long_is_laid_aside_and_gone_on_with(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime, linger_s=0.01) as (client, serving):
        await hang_up(client, runtime)
        await until_free(serving)
        assert runtime.num_running == 0
        runtime.pause.set()
        assert text_of(events_of((await ask(client, STREAM)).text)) == ANSWER
    assert [len(request.written) for request in runtime.requests] == [0, HALF]


async def test_who_comes_back_in_time_keeps_it_going(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime, linger_s=0.2) as (client, _):
        await hang_up(client, runtime)
        asking = asyncio.create_task(ask(client, STREAM))
        await asyncio.sleep(0.4)
        runtime.pause.set()
        assert text_of(events_of((await asking).text)) == ANSWER
    assert len(runtime.requests) == 1


async def test_figures_count_an_answer_once(tmp_path: Path) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as (client, serving):
        for _ in range(3):
            await ask(client)
        page = serving.metrics.page().decode()
    assert f'vllm:generation_tokens_total{{model_name="fake"}} {len(ANSWER)}.0' in page


async def test_a_second_daemon_answers_without_a_journal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, FakeRuntime()) as (first, _):
        await ask(first)
        async with a_daemon(tmp_path, runtime) as (second, _):
            for _ in range(2):
                assert (await ask(second)).status_code == 200
            assert len(runtime.requests) == 2
        kept = (await ask(first)).json()
    assert caplog.messages.count("journal_unusable") == 1
    async with a_daemon(tmp_path, None) as (third, _):
        assert (await ask(third)).json() == kept


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = Bounds(max_answers=8, max_bytes=100, max_age_s=60)
    async with a_daemon(tmp_path, FakeRuntime(), bounds=bounds) as (client, _):
        assert (await ask(client)).json()["choices"][0]["message"]["content"] == ANSWER
    assert "journal_unwritable" in caplog.messages


def files(directory: Path) -> Sequence[Path]:
    return list((directory / "journal").glob("*.answer"))


async def test_nothing_of_a_prompt_is_kept(tmp_path: Path) -> None:
    body = HI | {"messages": [{"role": "user", "content": "a secret"}]}
    async with a_daemon(tmp_path, FakeRuntime()) as (client, _):
        await ask(client, body)
    (file,) = files(tmp_path)
    assert b"secret" not in file.read_bytes()
    assert b"rides" not in file.read_bytes()  # tokens are kept one by one


@pytest.mark.parametrize("damage", ["cut", "torn", "empty"])
async def test_a_damaged_file_costs_what_is_damaged_only(tmp_path: Path, damage: str) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as (client, _):
        first = (await ask(client)).json()
    (file,) = files(tmp_path)
    content = file.read_bytes()
    left = {"cut": content[:-200], "torn": content[:-40] + b"\0" * 40, "empty": b""}[damage]
    file.write_bytes(left)
    again = FakeRuntime()
    async with a_daemon(tmp_path, again) as (client, _):
        second = (await ask(client)).json()
    assert second["choices"] == first["choices"]
    assert len(again.requests) == 1
    assert (len(again.requests[0].written) > 0) == (damage != "empty")
