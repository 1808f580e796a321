"""What a target answered, and how long its passes took: enough to play it again without the model.

A file of JSON. Greedy answers only: what was chosen after a text that is not recorded is not known.
Knows nothing of pages or passes.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from outrider_common.errors import ConfigError

NAME: Final = "recorded"
"""What a target's name begins with, where it is a recording: `recorded:FILE`."""

_FORMAT: Final = "outrider-recording-1"


@dataclass(frozen=True, slots=True)
class RecordedText:
    """One answer.

    Attributes:
        prompt: token ids, at least one.
        answer: what the target wrote, greedily.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """A target as it was heard.

    Attributes:
        model: its name.
        tokenizer: its tokenizer's fingerprint.
        vocab_size: token ids are below this.
        max_positions: the most tokens of one text.
        eos_token_ids: ids that end an answer; at least one.
        c0_s: seconds that a pass took whatever it computed.
        c1_s: seconds that every row added.
        texts: the answers.
    """

    model: str
    tokenizer: str
    vocab_size: int
    max_positions: int
    eos_token_ids: tuple[int, ...]
    c0_s: float
    c1_s: float
    texts: tuple[RecordedText, ...]

    @staticmethod
    def is_meant_by(text: str) -> bool:
        """Whether a model's name is that of a recording, though its file may not be there."""
        return text.partition(":")[0] == NAME

    @classmethod
    def named(cls, text: str) -> "Recording":
        """The recording of `recorded:FILE`.

        Raises:
            ConfigError: the file cannot be read, or is no recording.
        """
        _, _, file = text.partition(":")
        try:
            document = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The recording '{file}' cannot be read ({error}); write one with "
                "'outrider bench record'."
            ) from error
        try:
            return cls._from_json(document)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"'{file}' is no recording of this release; write one with 'outrider bench record'."
            ) from error

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> "Recording":
        if document["format"] != _FORMAT:
            raise ValueError(document["format"])
        fields = {name: document[name] for name in cls.__dataclass_fields__}
        fields["eos_token_ids"] = tuple(document["eos_token_ids"])
        fields["texts"] = tuple(
            RecordedText(tuple(text["prompt"]), tuple(text["answer"])) for text in fields["texts"]
        )
        return cls(**fields)

    def write(self, path: Path) -> None:
        """Write the file that `named` reads."""
        path.write_text(json.dumps({"format": _FORMAT} | asdict(self)) + "\n", encoding="utf-8")

    def pass_s(self, num_rows: int) -> float:
        """Seconds that a pass of so many rows takes: c0 + c1 * rows."""
        return self.c0_s + self.c1_s * num_rows
