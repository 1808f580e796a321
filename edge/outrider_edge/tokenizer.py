"""Text to tokens and back at the edge, for one model.

A thin shell around a `tokenizer.json` and the model's chat template, equal to what Transformers
makes of the same files. Knows nothing of generations; `streaming_text` turns tokens to text one at
a time.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from outrider_common.errors import InvalidPromptError, ModelFileError, UnsupportedError
from outrider_edge.chat_template import ChatTemplate, Message
from outrider_edge.streaming_text import IncrementalDetokenizer
from outrider_models.bundle import CHAT_TEMPLATE_FILE, TOKENIZER_FILE

TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"


class EdgeTokenizer:
    """The tokenizer and chat template of one model.

    Args:
        tokenizer: the loaded `tokenizer.json`. Padding and truncation are switched off.
        chat_template: how a chat becomes a prompt; None for a model without chats.
    """

    def __init__(self, tokenizer: Tokenizer, chat_template: ChatTemplate | None = None) -> None:
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer
        self._chat_template = chat_template

    @classmethod
    def load(
        cls, directory: Path, special_token_ids: Mapping[str, int | None] | None = None
    ) -> "EdgeTokenizer":
        """Load from a model directory or a drafter bundle.

        Reads `tokenizer.json`, `chat_template.jinja`, and `tokenizer_config.json` where there is
        one: for special tokens, and for a chat template that has no file of its own.

        Args:
            directory: where the files are.
            special_token_ids: special tokens by the name under which chat templates know them,
                such as `bos_token`: what a bundle's manifest says. They come before those of
                `tokenizer_config.json`. None: the model has no such token.

        Raises:
            ModelFileError: a file is missing or cannot be read.
        """
        tokenizer = _read_tokenizer(directory / TOKENIZER_FILE)
        config = _read_config(directory / TOKENIZER_CONFIG_FILE)
        source = _template_source(directory / CHAT_TEMPLATE_FILE, config)
        if source is None:
            return cls(tokenizer)
        names = _special_tokens(config) | _token_strings(tokenizer, special_token_ids or {})
        return cls(tokenizer, ChatTemplate(source, names))

    @property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def vocabulary(self) -> dict[str, int]:
        """Every token's string and id, added ones included: what fingerprints are made of."""
        return self._tokenizer.get_vocab(with_added_tokens=True)

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """The prompt tokens of a chat.

        Args:
            messages: the chat, oldest message first.
            add_generation_prompt: end with what introduces the assistant's answer.

        Raises:
            UnsupportedError: the model has no chat template.
            InvalidPromptError: the template refuses the chat, or its text is not valid Unicode.
        """
        if self._chat_template is None:
            raise UnsupportedError(
                "the model has no chat template; send a plain prompt, or use an instruct model"
            )
        text = self._chat_template.render(messages, add_generation_prompt=add_generation_prompt)
        return self.encode(text, add_special_tokens=False)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The tokens of a text.

        Args:
            text: may hold special tokens by their names; they become those tokens.
            add_special_tokens: add what the model expects around a plain text, such as a begin
                token.

        Raises:
            InvalidPromptError: the text is not valid Unicode.
        """
        _require_whole_characters(text)
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def decode(self, tokens: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of tokens. Ids that the tokenizer does not know have no text."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=skip_special_tokens)

    def detokenizer(self, *, skip_special_tokens: bool = True) -> IncrementalDetokenizer:
        """Decodes one generation, token by token."""
        return IncrementalDetokenizer(self._tokenizer, skip_special_tokens=skip_special_tokens)


def _read_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelFileError(f"{path} is missing; pull or export the model again")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more specific
        raise ModelFileError(
            f"{path} is not a tokenizer file: {error}; pull or export the model again"
        ) from error


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(_read_text(path))
    except json.JSONDecodeError as error:
        raise ModelFileError(
            f"{path} is not JSON: {error}; pull or export the model again"
        ) from error
    if not isinstance(config, dict):
        raise ModelFileError(f"{path} is not a JSON object; pull or export the model again")
    return config


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelFileError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}; pull or export the"
            " model again"
        ) from error


def _template_source(path: Path, config: Mapping[str, Any]) -> str | None:
    if path.is_file():
        return _read_text(path)
    source = config.get("chat_template")
    if isinstance(source, list):
        # Several templates by name: for tools, for retrieval, and the usual one.
        named = {entry.get("name"): entry.get("template") for entry in source}
        source = named.get("default")
    return source if isinstance(source, str) else None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """Entries such as `"bos_token": "<s>"` or `"bos_token": {"content": "<s>", ...}`."""
    names = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            names[name] = text
    return names


def _token_strings(tokenizer: Tokenizer, ids: Mapping[str, int | None]) -> dict[str, str]:
    names = {}
    for name, token_id in ids.items():
        text = None if token_id is None else tokenizer.id_to_token(token_id)
        if text is not None:
            names[name] = text
    return names


def _require_whole_characters(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidPromptError(
            f"the prompt holds half of a surrogate pair, U+{ord(text[error.start]):04X}, at"
            f" character {error.start}; send whole characters"
        ) from None
