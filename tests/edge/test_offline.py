"""Days without a verifier: requests fail, or wait and are served in order, as the settings say."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
from api_client import CHAT, HI, a_client, a_serving, error_of, events_of, text_of
from fake_link import FakeLink
from fake_runtime import ANSWER, FakeRuntime

from outrider_common.errors import UnavailableError
from outrider_common.messages import ModelInfo
from outrider_edge import generation_endpoint
from outrider_edge.offline import OfflineQueue
from outrider_edge.serving import Serving

STREAM = HI | {"stream": True}
GONE = UnavailableError("the verifier is gone")
HALF = (len(ANSWER) + 1) // 2


class Uncertain(FakeLink):
    """A link to a verifier that is there, or not."""

    is_up = True

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        if not self.is_up:
            raise GONE
        return await super().model_info(timeout_s)


@dataclass
class Flaky(FakeRuntime):
    """Fails while its link is down."""

    link: Uncertain = field(default_factory=lambda: Uncertain([]))

    def go(self, after: int = 0) -> None:
        self.link.is_up, self.error, self.error_after = False, GONE, after

    def come_back(self) -> None:
        self.link.is_up, self.error = True, None


def a_waiting_daemon(
    runtime: FakeRuntime | None, timeout_s: float = 30, max_waiting: int = 8, room: int = 4
) -> Serving:
    serving = a_serving(runtime, offline="queue", max_concurrent_requests=room)
    serving.offline = OfflineQueue(max_waiting, timeout_s, retry_s=0.01)
    return serving


async def ask(client: httpx2.AsyncClient, body: dict[str, Any] = HI) -> httpx2.Response:
    return await client.post(CHAT, json=body)


def content(response: httpx2.Response) -> str:
    text: str = response.json()["choices"][0]["message"]["content"]
    return text


async def until_waiting(serving: Serving, count: int) -> None:
    assert serving.offline is not None
    while serving.offline.num_waiting < count:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.005)


def test_requests_fail_unless_they_shall_wait() -> None:
    assert a_serving(None).offline is None


async def test_a_request_waits_for_the_first_verifier() -> None:
    serving = a_waiting_daemon(None)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        assert "vllm:num_requests_waiting 1.0" in serving.metrics.page().decode()
        serving.runtime = FakeRuntime()
        assert content(await asking) == ANSWER
    assert serving.offline is not None
    assert serving.offline.num_waiting == 0


async def test_a_request_waits_for_a_verifier_that_has_gone() -> None:
    runtime = Flaky()
    runtime.go()
    serving = a_waiting_daemon(runtime)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        runtime.come_back()
        assert content(await asking) == ANSWER


@pytest.mark.parametrize("body", [HI, STREAM])
async def test_an_answer_that_broke_off_goes_on_where_it_was(body: dict[str, Any]) -> None:
    runtime = Flaky()
    runtime.go(after=1)
    serving = a_waiting_daemon(runtime)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client, body))
        await until_waiting(serving, 1)
        runtime.come_back()
        response = await asking
    text = text_of(events_of(response.text)) if body.get("stream") else content(response)
    assert text == ANSWER
    assert [len(request.written) for request in runtime.requests] == [0, HALF]


async def test_those_that_wait_are_served_in_the_order_in_which_they_came() -> None:
    runtime = Flaky()
    serving = a_waiting_daemon(None, room=1)
    async with a_client(serving) as client:
        asking = []
        for number in range(5):
            asking.append(asyncio.create_task(ask(client, HI | {"seed": number})))
            await until_waiting(serving, number + 1)
        serving.runtime = runtime
        responses = await asyncio.gather(*asking)
    assert [response.status_code for response in responses] == [200] * 5
    assert [request.sampling.seed for request in runtime.requests] == list(range(5))


async def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    runtime = Flaky()
    runtime.go()
    serving = a_waiting_daemon(runtime)
    async with a_client(serving) as client:
        first = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        second = asyncio.create_task(ask(client))
        await until_waiting(serving, 2)
        assert serving.slots.num_taken == 1  # the second one has not begun
        runtime.come_back()
        assert content(await first) == content(await second) == ANSWER


async def test_more_than_may_wait_are_told_to_come_again() -> None:
    serving = a_waiting_daemon(None, max_waiting=1)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        response = await ask(client)
        assert response.status_code == 429
        assert "offline_max_waiting" in error_of(response)["message"]
        serving.runtime = FakeRuntime()
        assert (await asking).status_code == 200


async def test_waiting_ends() -> None:
    async with a_client(a_waiting_daemon(None, timeout_s=0.05)) as client:
        response = await ask(client)
    assert response.status_code == 503
    assert "0.05 s (daemon.offline_timeout_s)" in error_of(response)["message"]


async def test_an_answer_that_waited_in_vain_says_what_was_written() -> None:
    runtime = Flaky()
    runtime.go(after=1)
    async with a_client(a_waiting_daemon(runtime, timeout_s=0.05)) as client:
        response = await ask(client)
    error = error_of(response)
    assert (response.status_code, error["code"]) == (503, "broken_off")
    assert (error["text_so_far"], error["num_tokens"]) == (ANSWER[:HALF], HALF)


async def test_a_daemon_that_stops_lets_nobody_wait() -> None:
    serving = a_waiting_daemon(None)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        serving.is_stopping = True
        response = await asking
    assert response.status_code == 503
    assert "stopping" in error_of(response)["message"]


async def test_a_client_that_goes_does_not_wait_any_more() -> None:
    serving = a_waiting_daemon(None)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client))
        await until_waiting(serving, 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert serving.offline is not None
        assert serving.offline.num_waiting == 0


@pytest.mark.parametrize("is_there", [True, False])
async def test_the_client_of_a_stream_hears_that_it_waits(
    monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(generation_endpoint, "KEEP_ALIVE_S", 0.01)
    serving = a_waiting_daemon(None, timeout_s=30 if is_there else 0.2)
    async with a_client(serving) as client:
        asking = asyncio.create_task(ask(client, STREAM))
        await until_waiting(serving, 1)
        await asyncio.sleep(0.05)
        serving.runtime = FakeRuntime() if is_there else None
        response = await asking
    assert response.status_code == 200
    comments, _, said = response.text.partition("data: ")
    assert comments.startswith(": waiting for a verifier\n\n")
    if is_there:
        assert text_of(events_of("data: " + said)) == ANSWER
    else:
        assert "offline_timeout_s" in said


async def test_other_errors_do_not_wait() -> None:
    serving = a_waiting_daemon(FakeRuntime())
    async with a_client(serving) as client:
        assert (await ask(client, HI | {"model": "no"})).status_code == 404
        assert (await ask(client, HI | {"n": 5})).status_code == 400
