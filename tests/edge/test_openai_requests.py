"""OpenAI's requests as ours: every parameter, and everything that is refused."""

import contextlib
from dataclasses import fields
from typing import Any, get_type_hints

import pytest
from fake_link import an_info
from fake_runtime import a_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from openai.types import completion_create_params as completion_params
from openai.types.chat import completion_create_params as chat_params
from test_json_fields import json_values

from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import OutriderError, UnknownModelError
from outrider_common.sampling import MAX_SEED, SamplingParams
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.openai_requests import (
    ApiRequest,
    parse_chat_request,
    parse_completion_request,
)

FRESH = 4711
DEFAULTS = SamplingSettings(temperature=0.5, top_k=7, max_tokens=99)
MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT: dict[str, Any] = {"model": "fake", "messages": MESSAGES}
COMPLETION: dict[str, Any] = {"model": "fake", "prompt": "Hi"}


def chat(**more: Any) -> ApiRequest:
    return parse_chat_request(CHAT | more, DEFAULTS, lambda: FRESH)


def completion(**more: Any) -> ApiRequest:
    return parse_completion_request(COMPLETION | more, DEFAULTS, lambda: FRESH)


def prompts_of(request: ApiRequest) -> list[str]:
    tokenizer = a_tokenizer()
    generations = request.generations(tokenizer, an_info())
    return [tokenizer.decode(generation.prompt) for generation in generations]


def refusal(parse: Any, **more: Any) -> BadRequestError:
    with pytest.raises(BadRequestError) as caught:
        parse(**more)
    return caught.value


def test_what_a_request_does_not_say_comes_from_the_settings() -> None:
    generation = chat().generation
    assert generation.sampling == SamplingParams(temperature=0.5, top_k=7, seed=FRESH)
    assert generation.max_tokens == 99
    assert generation.acceptance.mode is AcceptanceMode.EXACT
    assert not chat().stream
    assert chat().num_choices == 1


@pytest.mark.parametrize("parse", [chat, completion])
def test_every_sampling_parameter_is_taken(parse: Any) -> None:
    sampling: dict[str, Any] = {
        "temperature": 0.25,
        "top_k": 3,
        "top_p": 0.5,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "presence_penalty": -0.5,
        "frequency_penalty": 0.75,
        "seed": 12,
    }
    assert set(sampling) == {field.name for field in fields(SamplingParams)}
    assert parse(**sampling).generation.sampling == SamplingParams(**sampling)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", float("inf")),
        ("top_p", 0),
        ("top_p", 1.5),
        ("min_p", 1),
        ("repetition_penalty", 0),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -3),
        ("top_k", -2),
        ("seed", 2**64),
        ("seed", 1.5),
        ("n", 0),
        ("n", 129),
        ("max_tokens", 0),
        ("stop", ["a", ""]),
        ("stop", ["a"] * 65),
        ("stop", {"a": 1}),
        ("stop_token_ids", [-1]),
        ("stop_token_ids", [True]),
        ("acceptance_mode", "generous"),
        ("stream", "yes"),
        ("model", 5),
    ],
)
@pytest.mark.parametrize("parse", [chat, completion])
def test_a_value_out_of_range_is_refused_by_name(parse: Any, name: str, value: object) -> None:
    error = refusal(parse, **{name: value})
    assert error.param == name
    assert name in str(error)


def test_minus_one_is_vllms_way_to_say_that_all_tokens_may_be_sampled() -> None:
    assert chat(top_k=-1).generation.sampling.top_k == 0


def test_a_negative_seed_is_one_too() -> None:
    assert chat(seed=-1).generation.sampling.seed == MAX_SEED


def test_each_choice_has_the_next_seed() -> None:
    generations = chat(n=3, seed=MAX_SEED).generations(a_tokenizer(), an_info())
    assert [generation.sampling.seed for generation in generations] == [MAX_SEED, 0, 1]


@pytest.mark.parametrize(
    ("given_value", "stops"), [(None, ()), ("x", ("x",)), (["x", "yz"], ("x", "yz")), ([], ())]
)
def test_stop_is_a_string_or_a_list(given_value: object, stops: tuple[str, ...]) -> None:
    assert chat(stop=given_value).generation.stop_strings == stops


def test_a_chat_takes_both_names_for_its_length_if_they_agree() -> None:
    assert chat(max_completion_tokens=5).generation.max_tokens == 5
    assert chat(max_tokens=5, max_completion_tokens=5).generation.max_tokens == 5
    assert "differ" in str(refusal(chat, max_tokens=5, max_completion_tokens=6))


def test_what_vllm_adds_is_taken() -> None:
    generation = completion(ignore_eos=True, stop_token_ids=[3, 4]).generation
    assert generation.ignore_eos
    assert generation.stop_token_ids == (3, 4)
    mode = completion(acceptance_mode="typical").generation.acceptance.mode
    assert mode is AcceptanceMode.TYPICAL


@pytest.mark.parametrize("parse", [chat, completion])
def test_usage_in_a_stream_is_asked_for(parse: Any) -> None:
    assert parse(stream=True, stream_options={"include_usage": True}).include_usage
    assert not parse(stream=True, stream_options={}).include_usage
    assert refusal(parse, stream_options={"include_usage": True}).param == "stream_options"
    unknown = refusal(parse, stream=True, stream_options={"every": 3})
    assert unknown.param == "stream_options.every"


@pytest.mark.parametrize(
    ("parse", "name", "value"),
    [
        (chat, "response_format", {"type": "json_object"}),
        (chat, "tools", [{"type": "function"}]),
        (chat, "tool_choice", "required"),
        (chat, "functions", [{}]),
        (chat, "logit_bias", {"5": 1}),
        (chat, "modalities", ["text", "audio"]),
        (chat, "audio", {}),
        (chat, "prediction", {"type": "content", "content": "x"}),
        (chat, "reasoning_effort", "low"),
        (chat, "store", True),
        (chat, "store", 0),
        (chat, "service_tier", "priority"),
        (completion, "echo", True),
        (completion, "best_of", 2),
        (completion, "suffix", "end"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(parse: Any, name: str, value: object) -> None:
    error = refusal(parse, **{name: value})
    assert error.param == name
    assert error.code == "unsupported_parameter"
    assert "not supported" in str(error)


@pytest.mark.parametrize(
    ("parse", "harmless"),
    [
        (chat, {"logprobs": False, "top_logprobs": None, "response_format": {"type": "text"}}),
        (chat, {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}),
        (chat, {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto"}),
        (completion, {"logprobs": None, "echo": False, "best_of": 1, "suffix": "", "user": "u"}),
    ],
)
def test_what_asks_for_nothing_passes(parse: Any, harmless: dict[str, Any]) -> None:
    assert parse(**harmless) == parse()


@pytest.mark.parametrize(
    ("parse", "asked", "count"),
    [
        (chat, {}, None),
        (chat, {"logprobs": False, "top_logprobs": 0}, None),
        (chat, {"logprobs": True}, 0),
        (chat, {"logprobs": True, "top_logprobs": 20}, 20),
        (completion, {}, None),
        (completion, {"logprobs": 0}, 0),
        (completion, {"logprobs": 5}, 5),
    ],
)
def test_log_probabilities_are_asked_for(parse: Any, asked: Any, count: int | None) -> None:
    assert parse(**asked).generation.num_top_logprobs == count


@pytest.mark.parametrize(
    ("parse", "asked", "param"),
    [
        (chat, {"top_logprobs": 3}, "top_logprobs"),
        (chat, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        (chat, {"logprobs": 3}, "logprobs"),
        (completion, {"logprobs": 6}, "logprobs"),
        (completion, {"logprobs": True}, "logprobs"),
        (completion, {"top_logprobs": 1}, "top_logprobs"),
    ],
)
def test_log_probabilities_that_cannot_be_had_are_refused(
    parse: Any, asked: Any, param: str
) -> None:
    assert refusal(parse, **asked).param == param


@pytest.mark.parametrize("name", ["functions_", "guided_json", "prompt", "max_token"])
def test_an_unknown_parameter_is_refused_by_name(name: str) -> None:
    error = refusal(chat, **{name: None})
    assert error.param == name
    assert error.code == "unknown_parameter"


LABELS = {"user", "metadata", "safety_identifier", "prompt_cache_key"}


@pytest.mark.parametrize(
    ("parse", "parameters"),
    [
        (chat, chat_params.CompletionCreateParamsNonStreaming),
        (completion, completion_params.CompletionCreateParamsNonStreaming),
    ],
)
def test_no_parameter_of_the_official_client_is_passed_over_in_silence(
    parse: Any, parameters: Any
) -> None:
    names = set(get_type_hints(parameters))
    for name in names - LABELS:
        assert refusal(parse, **{name: {"odd": "value"}}).param == name


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_what_is_missing_is_named(missing: str) -> None:
    body = {name: value for name, value in CHAT.items() if name != missing}
    with pytest.raises(BadRequestError, match=f"{missing} is missing") as caught:
        parse_chat_request(body, DEFAULTS, lambda: FRESH)
    assert caught.value.code == "missing_required_parameter"


def test_messages_become_the_prompt() -> None:
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]},
        {"role": "assistant", "content": "C", "refusal": None, "tool_calls": None},
    ]
    assert prompts_of(chat(messages=messages)) == ["<system>Be brief.<user>A\nB<assistant>C"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([], "messages"),
        ("Hi", "messages"),
        (["Hi"], "messages[0]"),
        ([{"content": "Hi"}], "messages[0].role"),
        ([{"role": "tool", "content": "Hi"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": 5}], "messages[0].content"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": "Hi", "colour": 1}], "messages[0].colour"),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            "messages[0].content[0].type",
        ),
        (
            [{"role": "user", "content": [{"type": "text", "text": 1}]}],
            "messages[0].content[0].text",
        ),
        ([{"role": "assistant", "content": "x", "tool_calls": [{}]}], "messages[0].tool_calls"),
    ],
)
def test_a_message_that_cannot_be_read_is_named(messages: object, param: str) -> None:
    assert refusal(chat, messages=messages).param == param


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        ("ab", ["ab"]),
        (["ab", "c"], ["ab", "c"]),
        ([97, 98], ["ab"]),
        ([[97], [98, 99]], ["a", "bc"]),
    ],
)
def test_a_prompt_is_text_or_tokens_once_or_often(prompt: object, texts: list[str]) -> None:
    assert prompts_of(completion(prompt=prompt)) == texts


def test_every_prompt_is_answered_n_times() -> None:
    request = completion(prompt=["a", "b"], n=2)
    assert request.num_answers == 4
    assert prompts_of(request) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("prompt", [None, 5, [], [[]], ["a", 5], [-1], [True], {"a": 1}])
def test_what_is_no_prompt_is_refused(prompt: object) -> None:
    assert refusal(completion, prompt=prompt).param == "prompt"


def test_a_token_that_the_target_lacks_is_refused() -> None:
    request = completion(prompt=[97, 256])
    with pytest.raises(BadRequestError, match="the token 256"):
        request.generations(a_tokenizer(), an_info())


def test_a_prompt_that_is_too_long_has_openais_code() -> None:
    for request in (completion(prompt="x" * 200), chat(messages=[MESSAGES[0]] * 100)):
        with pytest.raises(BadRequestError, match="takes at most 199") as caught:
            request.generations(a_tokenizer(), an_info())
        assert caught.value.code == "context_length_exceeded"


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(BadRequestError, match="prompt is empty") as caught:
        completion(prompt="").generations(a_tokenizer(), an_info())
    assert caught.value.code is None


def test_another_model_is_refused() -> None:
    chat().check_model(["other", "fake"])
    with pytest.raises(UnknownModelError, match="gpt-4"):
        chat(model="gpt-4").check_model(["fake"])


NAMES = st.sampled_from([*CHAT, *COMPLETION, "n", "seed", "stop", "stream", "stream_options"]) | (
    st.sampled_from(["temperature", "top_k", "max_tokens", "logprobs", "tools", "stop_token_ids"])
    | st.sampled_from(["acceptance_mode", "strange"])
)


@given(st.dictionaries(NAMES, json_values, max_size=4), st.booleans())
def test_any_body_is_understood_or_refused(more: dict[str, Any], is_chat: bool) -> None:
    parse = chat if is_chat else completion
    with contextlib.suppress(OutriderError):
        request = parse(**more)
        assert "strange" not in more
        assert len(request.generations(a_tokenizer(), an_info())) == request.num_answers
