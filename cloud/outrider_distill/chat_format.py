"""How one target's chat template frames a user's turn, in tokens.

The target can write user turns itself: it is given what comes before one, and goes on until it
would close it (Xu et al. 2024, "Magpie", arXiv:2406.08464). Knows nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from transformers import AutoTokenizer

from outrider_common.errors import ModelFileError, UnsupportedError

_MARK: Final = "user-turn-goes-here"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A user's turn and what surrounds it.

    Attributes:
        before: the tokens in front of what the user says.
        after: the tokens behind it; the assistant's answer follows.
    """

    before: tuple[int, ...]
    after: tuple[int, ...]

    def framed(self, user_turn: Sequence[int]) -> tuple[int, ...]:
        """The prompt of a chat in which the user has said this."""
        return (*self.before, *user_turn, *self.after)


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer of a model directory.

    Raises:
        ModelFileError: it cannot be loaded.
    """
    try:
        return AutoTokenizer.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelFileError(
            f"The tokenizer of '{directory}' cannot be loaded; add the model's tokenizer.json."
        ) from error


def chat_format(tokenizer: Any) -> ChatFormat:
    """How a tokenizer's chat template frames the first turn of a user.

    Raises:
        UnsupportedError: there is no chat template, or it hides what the user says.
    """
    if not tokenizer.chat_template:
        raise UnsupportedError(
            "The target has no chat template, so that nothing tells where a question ends and its "
            "answer begins; add its chat_template.jinja to the directory, or take the "
            "instruction-tuned model."
        )
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], add_generation_prompt=True, tokenize=False
    )
    before, found, after = text.partition(_MARK)
    if not found or not before or not after:
        raise UnsupportedError(
            "The target's chat template does not frame what a user says; a template is needed "
            "that puts something before and behind every user turn."
        )
    return ChatFormat(_ids(tokenizer, before), _ids(tokenizer, after))


def _ids(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(tokenizer.encode(text, add_special_tokens=False))
