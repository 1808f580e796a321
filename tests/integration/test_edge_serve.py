"""The edge daemon with real models, asked by the official OpenAI client."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from daemons import RunningDaemon, running_daemon
from openai import OpenAI

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
QUESTION = "Name three colours."
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
STORY: Any = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]


@pytest.fixture(scope="module")
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("edge") / "edge.sock"


@pytest.fixture(scope="module")
def daemon(
    verifier_address: str, int8_bundle_dir: Path, socket_path: Path
) -> Iterator[RunningDaemon]:
    options = ("--socket", str(socket_path), "--max-concurrent-requests", "8")
    with running_daemon(verifier_address, int8_bundle_dir, *options) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[OpenAI]:
    with daemon.client() as client:
        yield client


@pytest.fixture(scope="module")
def model(client: OpenAI) -> str:
    (card,) = client.models.list().data
    assert client.models.retrieve(card.id).id == card.id
    return card.id


def answer_of_edge_run(verifier: str, bundle: Path, *options: str) -> str:
    where = ("--verifier", verifier, "--bundle", str(bundle), "--json")
    result = subprocess.run(
        [sys.executable, "-m", "outrider", "edge", "run", QUESTION, *where, *options],
        capture_output=True,
        text=True,
        check=True,
    )
    text: str = json.loads(result.stdout)["text"]
    return text


def figure(daemon: RunningDaemon, name: str) -> float:
    page = httpx2.get(f"{daemon.url}/metrics").text
    match = re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    assert match is not None, f"{name} is not in the metrics"
    return float(match.group(1))


# The same text, however it is asked for.


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 24},
        {"max_tokens": 24, "temperature": 0.8, "top_p": 0.9, "seed": 7},
        {"max_tokens": 24, "temperature": 0.8, "top_k": 40, "repetition_penalty": 1.1, "seed": 3},
    ],
)
def test_an_answer_is_that_of_edge_run(
    client: OpenAI,
    model: str,
    verifier_address: str,
    int8_bundle_dir: Path,
    options: dict[str, Any],
) -> None:
    extra = {name: options[name] for name in ("top_k", "repetition_penalty") if name in options}
    plain = {name: value for name, value in options.items() if name not in extra}
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, extra_body=extra, **plain
    )
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    expected = answer_of_edge_run(verifier_address, int8_bundle_dir, *flags)
    assert answer.choices[0].message.content == expected


def test_a_stream_holds_the_same_text(client: OpenAI, model: str) -> None:
    options: Any = {"model": model, "messages": MESSAGES, "max_completion_tokens": 24, "seed": 1}
    whole = client.chat.completions.create(**options)
    stream = client.chat.completions.create(
        **options, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    reasons = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    assert reasons == [whole.choices[0].finish_reason]


def test_n_answers_are_those_of_n_seeds(client: OpenAI, model: str) -> None:
    options: Any = {"model": model, "messages": MESSAGES, "max_tokens": 16, "temperature": 1}
    both = client.chat.completions.create(**options, n=2, seed=11)
    alone = [client.chat.completions.create(**options, seed=seed) for seed in (11, 12)]
    texts = [answer.choices[0].message.content for answer in alone]
    assert [choice.message.content for choice in both.choices] == texts
    assert both.usage is not None
    used = [answer.usage.completion_tokens for answer in alone if answer.usage]
    assert both.usage.completion_tokens == sum(used)


def test_stop_strings_end_a_completion(client: OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="1, 2, 3, 4,", stop="7")
    assert answer.choices[0].text == " 5, 6, "
    assert answer.choices[0].finish_reason == "stop"


def test_a_completion_streams_and_takes_tokens(client: OpenAI, model: str) -> None:
    options: Any = {"model": model, "max_tokens": 8}
    pieces = list(client.completions.create(prompt="1, 2, 3, 4,", stream=True, **options))
    text = "".join(choice.text for piece in pieces for choice in piece.choices)
    several = client.completions.create(prompt=["1, 2, 3, 4,", "A, B, C,"], **options)
    assert several.choices[0].text == text
    assert len(several.choices) == 2


# What is said of an answer.


def test_usage_tells_what_was_drafted(client: OpenAI, model: str) -> None:
    always: Any = {"outrider": {"policy": "chain"}}  # whether it pays here or not
    options: Any = {"model": model, "messages": STORY, "max_tokens": 48}
    answer = client.chat.completions.create(**options, extra_body=always)
    assert answer.usage is not None
    details = answer.usage.completion_tokens_details
    assert details is not None
    assert details.accepted_prediction_tokens is not None
    assert 0 < details.accepted_prediction_tokens <= answer.usage.completion_tokens == 48
    figures = answer.model_extra["metrics"]["speculative_decoding"]  # type: ignore[index]
    assert figures["num_accepted_draft_tokens"] == details.accepted_prediction_tokens
    assert figures["num_draft_tokens"] == details.accepted_prediction_tokens + (
        details.rejected_prediction_tokens or 0
    )


def test_a_lossy_answer_says_so(client: OpenAI, model: str) -> None:
    answer = client.chat.completions.create(
        model=model, messages=MESSAGES, max_tokens=4, extra_body={"acceptance_mode": "relaxed"}
    )
    assert answer.model_extra["outrider"]["is_lossless"] is False  # type: ignore[index]


def test_metrics_health_and_readiness_are_served(
    daemon: RunningDaemon, client: OpenAI, model: str
) -> None:
    before = figure(daemon, "vllm:generation_tokens_total")
    client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=5)
    assert figure(daemon, "vllm:generation_tokens_total") == before + 5
    assert figure(daemon, "outrider_edge_estimated_pass_seconds") > 0
    assert httpx2.get(f"{daemon.url}/health").json() == {"status": "ok"}
    assert httpx2.get(f"{daemon.url}/ready").json()["model"] == model


def test_the_unix_socket_speaks_the_same(
    daemon: RunningDaemon, socket_path: Path, model: str
) -> None:
    transport = httpx2.HTTPTransport(uds=str(socket_path))
    with OpenAI(
        base_url="http://localhost/v1",
        api_key="none",
        http_client=openai.DefaultHttpxClient(transport=transport),
    ) as client:
        answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=4)
    assert answer.choices[0].message.content


# Many at once, and clients that leave.


async def test_eight_at_once_get_the_answers_that_each_gets_alone(
    daemon: RunningDaemon, client: OpenAI, model: str
) -> None:
    def options(seed: int) -> Any:
        return {
            "model": model,
            "messages": MESSAGES,
            "max_tokens": 12,
            "temperature": 0.9,
            "seed": seed,
        }

    alone = [client.chat.completions.create(**options(seed)) for seed in range(8)]
    async with daemon.async_client() as many, asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(many.chat.completions.create(**options(seed))) for seed in range(8)
        ]
    texts = [task.result().choices[0].message.content for task in asked]
    assert texts == [answer.choices[0].message.content for answer in alone]


async def test_a_ninth_is_told_to_come_again(daemon: RunningDaemon, model: str) -> None:
    async with daemon.async_client() as client:
        streams = [
            await client.chat.completions.create(
                model=model, messages=STORY, max_tokens=400, stream=True, n=4
            )
            for _ in range(2)
        ]
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model=model, messages=MESSAGES)
        assert int(caught.value.response.headers["retry-after"]) >= 1
        for stream in streams:
            await stream.close()
    await _until_idle(daemon)


async def test_a_client_that_leaves_frees_its_place(daemon: RunningDaemon, model: str) -> None:
    async with daemon.async_client() as client:
        stream = await client.chat.completions.create(
            model=model, messages=STORY, max_tokens=2000, stream=True
        )
        async for _ in stream:
            break
        assert figure(daemon, "vllm:num_requests_running") == 1
        await stream.close()
    await _until_idle(daemon)


async def _until_idle(daemon: RunningDaemon) -> None:
    """The test's own time limit is the only one."""
    while figure(daemon, "vllm:num_requests_running"):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


# What is refused, as the client raises it.


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": -1}, "temperature"),
        ({"extra_body": {"guided_json": {}}}, "guided_json"),
    ],
)
def test_what_is_not_offered_is_a_bad_request(
    client: OpenAI, model: str, options: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=MESSAGES, **options)
    assert caught.value.param == param


def test_a_prompt_that_is_too_long_has_openais_code(client: OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="word " * 9000)
    assert caught.value.code == "context_length_exceeded"


def test_another_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert caught.value.code == "model_not_found"


# The examples of the README.


def code_of_readme(language: str, holds: str) -> str:
    blocks = re.findall(
        rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (block,) = [block for block in blocks if holds in block]
    return str(block)


def test_the_python_of_the_readme_runs(
    daemon: RunningDaemon, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = code_of_readme("python", "from openai import OpenAI")
    code = code.replace("http://127.0.0.1:7412", daemon.url).replace("smollm2-135m", model)
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out) > 20


def test_the_curl_of_the_readme_is_answered(daemon: RunningDaemon, model: str) -> None:
    (line,) = [
        line for line in code_of_readme("console", "$ curl").splitlines() if "$ curl" in line
    ]
    _, _, _, url, flag, body = shlex.split(line)
    assert flag == "-d"
    response = httpx2.post(
        url.replace("http://127.0.0.1:7412", daemon.url),
        content=body.replace("smollm2-135m", model).encode(),
        timeout=60,
    )
    assert response.json()["choices"][0]["message"]["content"]
