"""Prompt files: JSON lines with a `prompt`, the `turns` of a chat, or `tokens`.

Reads and checks them. Knows nothing of models; what tokens mean is the tokenizer's business.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outrider_common.errors import InvalidInputError

DEFAULT_TASK: Final = "all"
"""The task of prompts that name none."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a user asks.

    Attributes:
        text: the user's first turn; None where tokens are given.
        tokens: the same, as token ids of the target; None where text is given.
        task: what kind of question it is.
    """

    text: str | None
    tokens: tuple[int, ...] | None
    task: str = DEFAULT_TASK

    def encode(self, tokenizer: Any, vocab_size: int) -> tuple[int, ...]:
        """The tokens of the user's turn.

        Raises:
            InvalidInputError: a token that the target lacks.
        """
        if self.tokens is None:
            return tuple(tokenizer.encode(self.text, add_special_tokens=False))
        for token in self.tokens:
            if not 0 <= token < vocab_size:
                raise InvalidInputError(
                    f"A prompt has the token {token}, but the target's vocabulary has {vocab_size} "
                    "tokens; write the prompts as text, or with the target's own tokenizer."
                )
        return self.tokens


def read_prompts(path: Path) -> list[Prompt]:
    """Read a file of prompts.

    Each line is a JSON object with one of `prompt` (text), `turns` (a list of texts, of which the
    first counts) and `tokens` (a list of ids), and perhaps a `category` or `task`.

    Raises:
        InvalidInputError: the file cannot be read, holds no prompt, or a line is not as above.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # JSON may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"The prompts '{path}' cannot be read ({error}); give a file of JSON lines."
        ) from error
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    prompts = [_parse(line, f"{path}:{number}") for number, line in numbered]
    if not prompts:
        raise InvalidInputError(
            f"The prompts '{path}' hold no prompt; write one JSON object on each line, such as "
            '{"prompt": "What is a tide?"}.'
        )
    return prompts


def _parse(line: str, where: str) -> Prompt:
    try:
        row: Any = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise InvalidInputError(f"{where} is not a JSON object; write one on each line.")
    task = row.get("task", row.get("category", DEFAULT_TASK))
    tokens, turns = row.get("tokens"), row.get("turns")
    text = turns[0] if isinstance(turns, list) and turns else row.get("prompt")
    if isinstance(tokens, list) and tokens and all(type(token) is int for token in tokens):
        return Prompt(None, tuple(tokens), str(task))
    if isinstance(text, str) and text.strip():
        return Prompt(text, None, str(task))
    raise InvalidInputError(
        f"{where} asks nothing: give it a 'prompt' (text), 'turns' (texts) or 'tokens' (ids)."
    )
