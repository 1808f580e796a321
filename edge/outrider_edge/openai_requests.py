"""OpenAI's requests as ours: pure translation, strict in everything that it reads.

A parameter that would change the answer and is not offered is refused by name; none is passed over
in silence. Knows nothing of HTTP, of runtimes or of time.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NoReturn

from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    TypicalThresholds,
)
from outrider_common.errors import InvalidPromptError, InvalidSamplingError, UnknownModelError
from outrider_common.logprobs import MAX_TOP_LOGPROBS
from outrider_common.messages import ModelInfo
from outrider_common.sampling import MAX_SEED, SamplingParams
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.generation import GenerationRequest
from outrider_edge.handling import AS_USUAL, Handling, parse_handling
from outrider_edge.json_fields import Fields, shown
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.tokenizer import EdgeTokenizer

MAX_CHOICES: Final = 128
MAX_STOPS: Final = 64
MAX_COMPLETION_LOGPROBS: Final = 5
_MAX_UINT32: Final = 2**32 - 1

_NUMBERS: Final = (
    "temperature",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)
"""Sampling parameters whose names are the same everywhere."""

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
"""Roles that are offered, and what chat templates call them."""

_LABELS: Final = ("user", "safety_identifier", "prompt_cache_key", "metadata")
"""Parameters that have no part in the answer, whatever they are."""

_TOOLS: Final = "tools are not offered"

_UNOFFERED: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    "logit_bias": (({},), "the target's logits are not changed one by one"),
    "service_tier": (("auto", "default"), "there is one tier"),
    "store": ((False,), "nothing is stored"),
}
"""Parameters that are not offered: the values that ask for nothing, and why others are refused."""

_UNOFFERED_IN_CHATS: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    **_UNOFFERED,
    "response_format": (({"type": "text"},), "answers are plain text"),
    "tools": (([],), _TOOLS),
    "tool_choice": (("none", "auto"), _TOOLS),
    "parallel_tool_calls": ((True, False), _TOOLS),
    "functions": (([],), _TOOLS),
    "function_call": (("none", "auto"), _TOOLS),
    "modalities": ((["text"],), "answers are plain text"),
    "audio": ((), "answers are plain text"),
    "prediction": ((), "the edge predicts by itself"),
    "reasoning_effort": ((), "it is not known how to steer the target's reasoning"),
    "verbosity": (("medium",), "it is not known how to steer the target's verbosity"),
    "web_search_options": ((), "there is no web search"),
    "moderation": ((), "there is no moderation"),
}

_UNOFFERED_IN_COMPLETIONS: Final[Mapping[str, tuple[tuple[object, ...], str]]] = {
    **_UNOFFERED,
    "best_of": ((1,), "answers are not ranked; use n"),
    "echo": ((False,), "put the prompt before the answer yourself"),
    "suffix": (("",), "texts are only continued at their end"),
}


@dataclass(frozen=True, slots=True)
class Chat:
    """A prompt made of messages, as chat templates read them."""

    messages: tuple[Mapping[str, str], ...]


Prompt = Chat | str | tuple[int, ...]
"""A chat, a text to be continued, or its tokens."""

FreshSeed = Callable[[], int]
"""Gives a seed to a request that names none."""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """What a client asks for.

    Attributes:
        model: the target, by the name that the verifier gives it.
        prompts: at least one; each is answered `num_choices` times.
        num_choices: answers to each prompt; the seed of each is one more than of the one before.
        stream: whether to answer piece by piece.
        include_usage: whether the last piece says what was used.
        generation: everything else, with an empty prompt.
        handling: how the answers are made.
    """

    model: str
    prompts: tuple[Prompt, ...]
    num_choices: int
    stream: bool
    include_usage: bool
    generation: GenerationRequest
    handling: Handling = AS_USUAL

    @property
    def num_answers(self) -> int:
        """How many generations this makes."""
        return len(self.prompts) * self.num_choices

    def with_seed(self, seed: int) -> "ApiRequest":
        """The same with another seed of the first choice."""
        sampling = replace(self.generation.sampling, seed=seed)
        return replace(self, generation=replace(self.generation, sampling=sampling))

    def check_model(self, offered: Collection[str]) -> None:
        """Refuse another model than those that are there.

        Raises:
            UnknownModelError: naming all.
        """
        if self.model not in offered:
            raise UnknownModelError(
                f"There is no model {shown(self.model)} here; use "
                f"{' or '.join(map(shown, offered))}, as /v1/models says."
            )

    def generations(self, tokenizer: EdgeTokenizer, info: ModelInfo) -> list[GenerationRequest]:
        """The generations, all choices of the first prompt first. Takes a while for long prompts.

        Raises:
            BadRequestError: a prompt is too long for the target, or has a token that it lacks.
            InvalidPromptError: a prompt is empty, or the chat template refuses it.
            UnsupportedError: the model takes no chats.
        """
        return [
            replace(self.generation, prompt=tokens, sampling=self._sampling(i))
            for tokens in (_tokens(prompt, tokenizer, info) for prompt in self.prompts)
            for i in range(self.num_choices)
        ]

    def _sampling(self, choice: int) -> SamplingParams:
        sampling = self.generation.sampling
        return replace(sampling, seed=(sampling.seed + choice) & MAX_SEED)


def parse_chat_request(
    document: object, defaults: SamplingSettings, fresh_seed: FreshSeed
) -> ApiRequest:
    """The body of `/v1/chat/completions`.

    Args:
        document: the JSON document.
        defaults: what holds where the request does not say.
        fresh_seed: called if the request has no seed.

    Raises:
        BadRequestError: naming the parameter that is unknown, not offered, or wrong.
    """
    body = Fields(document)
    chat = _chat(body)
    _refuse_unoffered(body, _UNOFFERED_IN_CHATS)
    max_tokens = _max_tokens(body, "max_completion_tokens", "max_tokens")
    request = _request(body, (chat,), max_tokens, defaults, fresh_seed)
    return _finished(body, request, _chat_logprobs(body))


def parse_completion_request(
    document: object, defaults: SamplingSettings, fresh_seed: FreshSeed
) -> ApiRequest:
    """The body of `/v1/completions`; see `parse_chat_request`."""
    body = Fields(document)
    prompts = _prompts(body)
    _refuse_unoffered(body, _UNOFFERED_IN_COMPLETIONS)
    max_tokens = _max_tokens(body, "max_tokens")
    request = _request(body, prompts, max_tokens, defaults, fresh_seed)
    return _finished(body, request, body.integer("logprobs", 0, MAX_COMPLETION_LOGPROBS))


def _request(
    body: Fields,
    prompts: tuple[Prompt, ...],
    max_tokens: int | None,
    defaults: SamplingSettings,
    fresh_seed: FreshSeed,
) -> ApiRequest:
    body.take_all(_LABELS)
    stream = body.switch("stream")
    return ApiRequest(
        model=_required(body, "model", body.text("model")),
        prompts=prompts,
        num_choices=body.integer("n", 1, MAX_CHOICES) or 1,
        stream=stream,
        include_usage=_include_usage(body, stream),
        generation=GenerationRequest(
            prompt=(),
            max_tokens=max_tokens or defaults.max_tokens,
            sampling=_sampling(body, defaults, fresh_seed),
            stop_strings=_stop_strings(body),
            stop_token_ids=_stop_token_ids(body),
            ignore_eos=body.switch("ignore_eos"),
            acceptance=_acceptance(body, defaults),
        ),
        handling=parse_handling(body, stream=stream),
    )


def _finished(body: Fields, request: ApiRequest, num_top_logprobs: int | None) -> ApiRequest:
    """The request with its log-probabilities, of which nothing may be left."""
    body.finish()
    generation = replace(request.generation, num_top_logprobs=num_top_logprobs)
    return replace(request, generation=generation)


def _chat_logprobs(body: Fields) -> int | None:
    are_wanted = body.switch("logprobs")
    count = body.integer("top_logprobs", 0, MAX_TOP_LOGPROBS) or 0
    if count and not are_wanted:
        raise BadRequestError(
            "top_logprobs has a meaning only with logprobs; set that to true, or leave both out.",
            "top_logprobs",
        )
    return count if are_wanted else None


def _required(body: Fields, name: str, value: Any) -> Any:
    if value is None:
        raise BadRequestError(
            f"{body.path(name)} is missing; add it.", body.path(name), "missing_required_parameter"
        )
    return value


def _refuse_unoffered(
    body: Fields, unoffered: Mapping[str, tuple[tuple[object, ...], str]]
) -> None:
    """Refuse what would change the answer; values that ask for nothing pass."""
    for name, value in body.take_all(unoffered).items():
        harmless, why = unoffered[name]
        # In Python, 0 == False: types are compared, too.
        if not any(type(value) is type(other) and value == other for other in harmless):
            _refuse_as_unsupported(body, name, value, why)


def _refuse_as_unsupported(body: Fields, name: str, value: object, why: str) -> NoReturn:
    raise BadRequestError(
        f"{body.path(name)} is {shown(value)}, but this is not supported: {why}. Leave it out.",
        body.path(name),
        "unsupported_parameter",
    )


def _max_tokens(body: Fields, *names: str) -> int | None:
    values = {name: body.integer(name, 1, _MAX_UINT32) for name in names}
    given = {value for value in values.values() if value is not None}
    if len(given) > 1:
        raise BadRequestError(
            f"{' and '.join(names)} differ ({', '.join(map(str, values.values()))}); send one.",
            names[0],
        )
    return given.pop() if given else None


def _include_usage(body: Fields, stream: bool) -> bool:
    value = body.take("stream_options")
    if value is None:
        return False
    if not stream:
        raise BadRequestError(
            "stream_options has a meaning only with stream; leave it out.", "stream_options"
        )
    options = Fields(value, "stream_options")
    include_usage = options.switch("include_usage")
    _refuse_unoffered(options, {"include_obfuscation": ((False,), "pieces are sent as they are")})
    options.finish()
    return include_usage


def _sampling(body: Fields, defaults: SamplingSettings, fresh_seed: FreshSeed) -> SamplingParams:
    values: dict[str, Any] = {name: body.number(name) for name in _NUMBERS}
    top_k = body.integer("top_k", -1, _MAX_UINT32)
    values["top_k"] = 0 if top_k == -1 else top_k  # vLLM's way to say that all may be sampled
    seed = body.integer("seed", -(2**63), MAX_SEED)
    values["seed"] = fresh_seed() if seed is None else seed & MAX_SEED
    given = {name: value for name, value in values.items() if value is not None}
    for name, value in given.items():  # one by one, so that the one at fault can be named
        try:
            SamplingParams(**{name: value})
        except InvalidSamplingError as error:
            raise BadRequestError(str(error), name) from None
    names = {field.name for field in fields(SamplingParams)}
    return SamplingParams(**(defaults.model_dump(include=names) | given))


def _stop_strings(body: Fields) -> tuple[str, ...]:
    value = body.take("stop")
    stops = [value] if isinstance(value, str) else value or []
    is_good = isinstance(stops, list) and len(stops) <= MAX_STOPS
    if not is_good or not all(isinstance(stop, str) and stop for stop in stops):
        body.refuse("stop", value, f"a string or a list of up to {MAX_STOPS}, none of them empty")
    return tuple(stops)


def _stop_token_ids(body: Fields) -> tuple[int, ...]:
    value = body.take("stop_token_ids")
    ids = [] if value is None else value
    if not isinstance(ids, list) or len(ids) > MAX_STOPS or not all(map(_is_token, ids)):
        body.refuse("stop_token_ids", value, f"a list of up to {MAX_STOPS} token ids")
    return tuple(ids)


def _acceptance(body: Fields, defaults: SamplingSettings) -> Acceptance:
    name = body.text("acceptance_mode") or defaults.acceptance_mode
    modes = [mode.value for mode in AcceptanceMode]
    if name not in modes:
        body.refuse("acceptance_mode", name, f"one of {', '.join(modes)}")
    return Acceptance(
        AcceptanceMode(name),
        TypicalThresholds(defaults.typical_epsilon, defaults.typical_delta),
        RelaxedMargins(defaults.relaxed_beta, defaults.relaxed_tau),
    )


def _chat(body: Fields) -> Chat:
    messages = _required(body, "messages", body.take("messages"))
    if not isinstance(messages, list) or not messages:
        body.refuse("messages", messages, "a list of at least one message")
    return Chat(tuple(_message(value, f"messages[{i}]") for i, value in enumerate(messages)))


def _message(value: object, where: str) -> Mapping[str, str]:
    message = Fields(value, where)
    role = _required(message, "role", message.text("role"))
    if role not in _ROLES:
        message.refuse("role", role, f"one of {', '.join(_ROLES)}")
    text = _content(message)
    name = message.text("name")
    _refuse_unoffered(
        message,
        {
            "tool_calls": (([],), _TOOLS),
            "function_call": ((), _TOOLS),
            "audio": ((), "messages are plain text"),
            "refusal": ((), "send it as content"),
            "annotations": (([],), "messages are plain text"),
        },
    )
    message.finish()
    return {"role": _ROLES[role], "content": text} | ({"name": name} if name else {})


def _content(message: Fields) -> str:
    content = _required(message, "content", message.take("content"))
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        message.refuse("content", content, "a string or a list of text parts")
    where = message.path("content")
    return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))


def _part(value: object, where: str) -> str:
    part = Fields(value, where)
    kind = _required(part, "type", part.text("type"))
    if kind != "text":
        _refuse_as_unsupported(part, "type", kind, "only parts of the type 'text' can be read")
    text: str = _required(part, "text", part.text("text"))
    part.finish()
    return text


def _prompts(body: Fields) -> tuple[Prompt, ...]:
    """A text, its tokens, or a list of either."""
    value = _required(body, "prompt", body.take("prompt"))
    many = [value] if isinstance(value, str) or _are_tokens(value) else value
    is_list = isinstance(many, list) and 0 < len(many) <= MAX_CHOICES
    if not is_list or not all(isinstance(one, str) or _are_tokens(one) for one in many):
        body.refuse("prompt", value, f"a text, its token ids, or a list of up to {MAX_CHOICES}")
    return tuple(one if isinstance(one, str) else tuple(one) for one in many)


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_token, value))


def _is_token(value: object) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and 0 <= value <= _MAX_UINT32  # type: ignore[operator]


def _tokens(prompt: Prompt, tokenizer: EdgeTokenizer, info: ModelInfo) -> tuple[int, ...]:
    match prompt:
        case Chat(messages):
            param, tokens = "messages", tuple(tokenizer.encode_chat(messages))
        case str():
            param, tokens = "prompt", tuple(tokenizer.encode(prompt))
        case _:
            param, tokens = "prompt", prompt
            _check_tokens(tokens, info)
    try:
        info.check_prompt_length(len(tokens))
    except InvalidPromptError as error:
        code = "context_length_exceeded" if tokens else None
        raise BadRequestError(str(error), param, code) from None
    return tokens


def _check_tokens(tokens: Sequence[int], info: ModelInfo) -> None:
    if max(tokens) >= info.vocab_size:
        raise BadRequestError(
            f"prompt holds the token {max(tokens)}, but the tokens of '{info.model}' are below "
            f"{info.vocab_size}; send tokens of its own tokenizer.",
            "prompt",
        )
