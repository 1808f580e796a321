"""Turns a chat into the prompt text of one model, with the Jinja template that came with it.

Renders as Transformers does, without needing Transformers. Knows nothing of tokens. Templates are
strangers' code: they run in Jinja's immutable sandbox.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from outrider_common.errors import InvalidPromptError, ModelFileError

Message = Mapping[str, Any]
"""One message of a chat: `role`, `content`, and whatever else the template reads."""

# What a template that meets an unexpected message raises, besides Jinja's own errors.
_RENDERING_ERRORS: Final = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: the Jinja source.
        special_tokens: names such as `bos_token` and their text, for the template to use.
        now: the clock behind `strftime_now`.

    Raises:
        ModelFileError: the source is not a template.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        environment = _environment(now)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelFileError(
                f"the chat template does not compile: {error}; pull or export the model again"
            ) from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> str:
        """The prompt text of a chat.

        Args:
            messages: the chat, oldest message first. Keys whose value is None are left out, as
                some templates would print them.
            add_generation_prompt: end with what introduces the assistant's answer.

        Raises:
            InvalidPromptError: the chat is empty, or the template refuses it.
        """
        if not messages:
            raise InvalidPromptError("the chat has no messages; send at least one")
        try:
            return self._template.render(
                messages=[_without_none(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special_tokens,
            )
        except _RENDERING_ERRORS as error:
            raise InvalidPromptError(
                f"the model's chat template refuses this chat: {error}; change the messages"
            ) from error


class _GenerationBlock(Extension):
    """Reads `{% generation %}`, which marks the answer's text for training, as nothing special."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment(now: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationBlock]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda style: now().strftime(style)
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML; models were trained on plain JSON.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _without_none(message: Message) -> dict[str, Any]:
    return {key: value for key, value in message.items() if value is not None}
