"""The HTTP API over a runtime in memory: answers, streams, and everything that may go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_client import (
    CHAT,
    COMPLETIONS,
    HI,
    a_client,
    a_serving,
    error_of,
    events_of,
    text_of,
    trace_of,
)
from fake_runtime import ANSWER, FakeRuntime

from outrider_common.errors import (
    CapacityError,
    MismatchError,
    UnavailableError,
)
from outrider_edge.http_app import build_app

STREAM = HI | {"stream": True}
CONTINUE: dict[str, Any] = {"model": "fake", "prompt": "Hi"}


async def test_a_chat_is_answered() -> None:
    runtime = FakeRuntime()
    async with a_client(a_serving(runtime)) as client:
        response = await client.post(CHAT, json=HI | {"seed": 5, "temperature": 1})
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["x-request-id"] == answer["id"]
    assert answer["choices"][0]["message"]["content"] == ANSWER
    assert answer["usage"]["prompt_tokens"] == len("<user>Hi")
    assert answer["outrider"]["seed"] == runtime.requests[0].sampling.seed == 5


async def test_a_text_is_continued() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        answer = (await client.post(COMPLETIONS, json=CONTINUE | {"max_tokens": 4})).json()
    assert answer["object"] == "text_completion"
    assert answer["choices"][0]["text"] == ANSWER[:4]
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(("route", "body"), [(CHAT, HI), (COMPLETIONS, CONTINUE)])
async def test_a_stream_holds_the_same_answer(route: str, body: dict[str, Any]) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    async with a_client(a_serving(FakeRuntime())) as client:
        whole = (await client.post(route, json=body)).json()
        response = await client.post(route, json=body | options)
    events = events_of(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert text_of(events) == ANSWER
    assert events[-1] == "[DONE]"
    assert events[-2]["usage"] == whole["usage"]
    assert events[-2]["metrics"] == whole["metrics"]
    assert len({event["id"] for event in events[:-1]}) == 1


async def test_choices_have_seeds_of_their_own_and_come_side_by_side() -> None:
    runtime = FakeRuntime()
    async with a_client(a_serving(runtime)) as client:
        events = events_of((await client.post(CHAT, json=STREAM | {"n": 3, "seed": 8})).text)
    assert [text_of(events, i) for i in range(3)] == [ANSWER] * 3
    assert [request.sampling.seed for request in runtime.requests] == [8, 9, 10]


async def test_a_prompt_counts_once_however_often_it_is_answered() -> None:
    serving = a_serving(FakeRuntime())
    async with a_client(serving) as client:
        answer = (await client.post(CHAT, json=HI | {"n": 3})).json()
    assert answer["usage"]["prompt_tokens"] == len("<user>Hi")
    assert answer["usage"]["completion_tokens"] == 3 * len(ANSWER)


async def test_a_request_without_a_seed_gets_a_fresh_one() -> None:
    runtime = FakeRuntime()
    async with a_client(a_serving(runtime)) as client:
        for _ in range(3):
            await client.post(CHAT, json=HI)
    # Of three numbers of 32 bits, two are the same in one of 1.4e9 cases.
    assert len({request.sampling.seed for request in runtime.requests}) == 3


async def test_the_model_is_listed() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        listed = (await client.get("/v1/models")).json()
        one = (await client.get("/v1/models/fake")).json()
        missing = await client.get("/v1/models/org/other")
    assert listed["data"] == [one]
    assert one["max_model_len"] == 200
    assert missing.status_code == 404
    assert error_of(missing)["code"] == "model_not_found"


async def test_another_model_is_not_there() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.post(CHAT, json=HI | {"model": "gpt-4"})
    assert response.status_code == 404
    assert error_of(response)["code"] == "model_not_found"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[]", b"5", b'{"model": "fake"}', b'{"x": "\\ud800"}']
)
async def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.post(CHAT, content=body)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "more",
    [
        {"messages": [{"role": "user", "content": "half \ud800 a pair"}]},
        {"model": "\ud800"},
        {"\ud800": 1},
    ],
)
async def test_half_a_surrogate_pair_is_refused(more: dict[str, Any]) -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.post(CHAT, content=json.dumps(HI | more).encode())
    assert response.status_code in (400, 404)
    assert error_of(response)["message"]


async def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.post(COMPLETIONS, json=CONTINUE | {"prompt": "x" * 200})
    assert response.status_code == 400
    assert error_of(response)["code"] == "context_length_exceeded"


@pytest.mark.parametrize("is_announced", [True, False])
async def test_a_body_that_is_too_large_is_not_read(is_announced: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield b" " * 1024

    content = b" " * 4096 if is_announced else parts()
    async with a_client(a_serving(FakeRuntime(), max_body_bytes=2048)) as client:
        response = await client.post(CHAT, content=content)
    assert response.status_code == 413
    assert "--max-body-bytes" in error_of(response)["message"]


async def test_a_body_that_says_that_it_is_too_large_is_not_even_begun() -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was read")

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-length", b"10000000000")]
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
    await build_app(a_serving(FakeRuntime()))(scope, receive, send)
    assert sent[0]["status"] == 413


async def test_a_body_that_never_ends_is_given_up() -> None:
    async def one_part() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    async with a_client(a_serving(FakeRuntime(), client_timeout_s=0.05)) as client:
        response = await client.post(CHAT, content=one_part())
    assert response.status_code == 408


@pytest.mark.parametrize(
    ("method", "route", "status"),
    [
        ("GET", CHAT, 405),
        ("DELETE", COMPLETIONS, 405),
        ("POST", "/health", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/", 405),
        ("POST", "/nothing", 404),
    ],
)
async def test_wrong_methods_and_routes_are_said_in_the_same_form(
    method: str, route: str, status: int
) -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        response = await client.request(method, route)
    assert response.status_code == status
    assert error_of(response)["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [HI, STREAM])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("down"), 503),
        (CapacityError("full", 2.5), 429),
        (MismatchError("other"), 500),
        (RuntimeError("secret"), 500),
    ],
)
async def test_what_fails_before_the_first_token_has_a_status(
    body: dict[str, Any], error: Exception, status: int
) -> None:
    async with a_client(a_serving(FakeRuntime(error=error))) as client:
        response = await client.post(CHAT, json=body)
    assert response.status_code == status
    assert response.headers["x-request-id"].startswith("chatcmpl-")
    assert "secret" not in response.text
    if status == 429:
        assert response.headers["retry-after"] == "3"


async def test_what_fails_in_the_middle_is_an_event_and_the_end() -> None:
    runtime = FakeRuntime(error=UnavailableError("gone"), error_after=1)
    serving = a_serving(runtime)
    async with a_client(serving) as client:
        events = events_of((await client.post(CHAT, json=STREAM)).text)
    assert text_of(events) == ANSWER[: (len(ANSWER) + 1) // 2]
    assert events[-1]["error"]["message"] == "gone"
    assert events[-1]["error"]["code"] == "verifier_unavailable"
    assert 'outcome="broken_off"' in serving.metrics.page().decode()


async def test_who_finds_no_room_is_told_when_to_come_again() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    serving = a_serving(runtime, max_concurrent_requests=2)
    async with a_client(serving) as client, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.post(CHAT, json=HI | {"n": 2}))
        for _ in range(2):
            await runtime.begun.get()
        refused = await client.post(CHAT, json=HI)
        runtime.pause.set()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert running.result().status_code == 200
    assert serving.slots.num_taken == 0


async def test_more_choices_than_ever_fit_are_a_bad_request() -> None:
    async with a_client(a_serving(FakeRuntime(), max_concurrent_requests=2)) as client:
        response = await client.post(CHAT, json=HI | {"n": 3})
    assert response.status_code == 400
    assert error_of(response)["param"] == "n"


async def test_without_a_verifier_the_daemon_lives_and_is_not_ready() -> None:
    serving = a_serving(None)
    serving.waiting_for = "No verifier answers at nowhere:1."
    async with a_client(serving) as client:
        assert (await client.get("/health")).status_code == 200
        for response in (
            await client.get("/ready"),
            await client.get("/v1/models"),
            await client.post(CHAT, json=HI),
        ):
            assert response.status_code == 503
            assert "nowhere:1" in error_of(response)["message"]


class LostLink:
    async def model_info(self) -> None:
        raise UnavailableError("The verifier is gone.")


async def test_ready_asks_the_verifier_each_time() -> None:
    runtime = FakeRuntime()
    async with a_client(a_serving(runtime)) as client:
        assert (await client.get("/ready")).json()["status"] == "ready"
        runtime.link = LostLink()  # type: ignore[assignment]
        assert (await client.get("/ready")).status_code == 503


async def test_a_daemon_that_stops_takes_no_more_and_ends_what_runs() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    serving = a_serving(runtime)
    async with a_client(serving) as client, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(client.post(CHAT, json=STREAM))
        await runtime.begun.get()
        serving.is_stopping = True
        refused = await client.post(CHAT, json=HI)
        await asyncio.sleep(0.01)
        serving.abort_all()
    assert refused.status_code == 503
    last = events_of(running.result().text)[-1]
    assert "stopped in the middle" in last["error"]["message"]
    assert runtime.num_running == 0


async def test_a_request_that_is_still_being_read_when_the_daemon_stops_is_not_begun() -> None:
    runtime = FakeRuntime()
    serving = a_serving(runtime)

    def encode_chat(_messages: object) -> list[int]:
        serving.is_stopping = True
        return [1]

    runtime.tokenizer.encode_chat = encode_chat  # type: ignore[method-assign, assignment]
    async with a_client(serving) as client:
        response = await client.post(CHAT, json=HI)
    assert response.status_code == 503
    assert runtime.requests == []


@pytest.mark.parametrize("body", [HI, STREAM])
async def test_a_client_that_hangs_up_ends_its_generations(body: dict[str, Any]) -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    serving = a_serving(runtime)
    hung_up = asyncio.Event()
    request = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, Any]:
        if request:
            return request.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": CHAT,
        "headers": [(b"host", b"localhost")],
    }
    answering = asyncio.create_task(build_app(serving)(scope, receive, send))
    await runtime.begun.get()
    hung_up.set()
    await answering
    assert runtime.num_running == 0
    assert serving.slots.num_taken == 0
    assert 'outcome="client_gone"' in serving.metrics.page().decode()


async def test_a_client_that_takes_nothing_is_given_up() -> None:
    serving = a_serving(FakeRuntime(), client_timeout_s=0.05)
    request = [{"type": "http.request", "body": json.dumps(STREAM).encode()}]

    async def receive() -> dict[str, Any]:
        if not request:
            await asyncio.sleep(60)
        return request.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(60)

    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [(b"host", b"localhost")]}
    await build_app(serving)(scope, receive, send)
    assert serving.slots.num_taken == 0
    assert 'outcome="client_gone"' in serving.metrics.page().decode()


async def test_tokens_that_came_together_go_together() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        events = events_of((await client.post(CHAT, json=STREAM)).text)
    texts = [
        event["choices"][0]["delta"].get("content") for event in events[:-1] if event["choices"]
    ]
    assert len(list(filter(None, texts))) <= 2  # the runtime commits twice


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": "127.0.0.1.evil.example:7412"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "localhost:7412"}, 200),
        ({"host": "[::1]:7412"}, 200),
        ({"origin": "http://127.0.0.1:7412"}, 200),
        ({"origin": "https://friend.example"}, 200),
    ],
)
async def test_a_strange_page_gets_nothing(headers: dict[str, str], status: int) -> None:
    runtime = FakeRuntime()
    serving = a_serving(runtime, allowed_origins=("https://friend.example",))
    async with a_client(serving) as client:
        response = await client.post(CHAT, json=HI, headers=headers)
    assert response.status_code == status
    assert len(runtime.requests) == (status == 200)


# What a client may ask of Outrider itself.


async def test_who_asks_for_the_trace_hears_everything_that_happens() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        body = STREAM | {"outrider": {"trace": True}}
        events = events_of((await client.post(CHAT, json=body)).text)
    assert text_of(events) == ANSWER
    told = trace_of(events)
    kinds = [event["kind"] for event in told]
    assert kinds[:5] == ["opened", "draft", "node", "fate", "pass"]
    tokens = [event for event in told if event["kind"] == "token"]
    assert "".join(token["text"] for token in tokens) == ANSWER
    (first, _second) = [event for event in told if event["kind"] == "node"]
    assert (first["text"], first["proposer"], first["chance"]) == ("#", "fake", 0.25)
    assert [e["fate"] for e in told if e["kind"] == "fate"] == ["rejected", "rejected"]


async def test_each_choice_has_a_trace_of_its_own() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        body = STREAM | {"n": 2, "outrider": {"trace": True}}
        events = events_of((await client.post(CHAT, json=body)).text)
    for index in range(2):
        tokens = [event for event in trace_of(events, index) if event["kind"] == "token"]
        assert "".join(token["text"] for token in tokens) == ANSWER


async def test_who_does_not_ask_sees_no_trace() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        plain = events_of((await client.post(CHAT, json=STREAM)).text)
        own = {"outrider": {"policy": "tree"}}
        with_policy = events_of((await client.post(CHAT, json=STREAM | own)).text)
    assert trace_of(plain) == trace_of(with_policy) == []
    assert len(plain) == len(with_policy)


async def test_a_request_has_the_policy_that_it_asks_for_and_others_have_the_daemons() -> None:
    runtime = FakeRuntime()
    async with a_client(a_serving(runtime)) as client:
        await client.post(CHAT, json=HI | {"outrider": {"policy": "stop-and-wait"}})
        await client.post(COMPLETIONS, json=CONTINUE)
    assert runtime.asked_policies == ["stop-and-wait", None]


async def test_a_policy_that_cannot_be_had_here_is_refused() -> None:
    async with a_client(a_serving(FakeRuntime(policies=("cloud",)))) as client:
        response = await client.post(CHAT, json=HI | {"outrider": {"policy": "tree"}})
        status = (await client.get("/status")).json()
    assert response.status_code == 400
    assert error_of(response)["param"] == "outrider.policy"
    assert status["policies"] == ["cloud"]


# Log-probabilities.


async def test_a_stream_tells_the_log_probabilities_of_the_whole_answer() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        body = HI | {"logprobs": True, "max_tokens": 9}
        whole = (await client.post(CHAT, json=body)).json()["choices"][0]["logprobs"]["content"]
        events = events_of((await client.post(CHAT, json=body | {"stream": True})).text)
    choices = [choice for event in events[:-1] for choice in event["choices"]]
    parts = [choice["logprobs"]["content"] for choice in choices if choice["logprobs"]]
    assert [entry for part in parts for entry in part] == whole
    assert "".join(entry["token"] for entry in whole) == ANSWER[:9]
    assert [entry["logprob"] for entry in whole] == list(range(-8, -17, -1))
    for choice in choices:
        said = (choice["logprobs"] or {"content": []})["content"]
        assert "".join(entry["token"] for entry in said) == choice["delta"].get("content", "")


async def test_a_completion_tells_where_each_token_stands() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        body = CONTINUE | {"logprobs": 0, "stream": True}
        events = events_of((await client.post(COMPLETIONS, json=body)).text)
    said = [choice["logprobs"] for event in events[:-1] for choice in event["choices"]]
    offsets = [offset for one in said if one for offset in one["text_offset"]]
    assert offsets == list(range(len(ANSWER)))


async def test_who_does_not_ask_gets_no_log_probabilities() -> None:
    async with a_client(a_serving(FakeRuntime())) as client:
        answer = (await client.post(CHAT, json=HI)).json()
    assert answer["choices"][0]["logprobs"] is None
