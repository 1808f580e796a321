"""What is asked of a distillation, as plain values; and the record of it in its directory.

A directory belongs to one request: what was begun for another is never gone on with.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from outrider_common.errors import InvalidInputError, ModelFileError
from outrider_distill.losses import Loss
from outrider_distill.samples import write_whole
from outrider_models.checksums import sha256_of

RECORD_FILE: Final = "request.json"

_PATHS: Final = ("target", "prompts", "openings", "text_of", "start_from")
"""What files are called does not matter, only what they hold."""


@dataclass(frozen=True, slots=True)
class DistillRequest:
    """What decides the result.

    Attributes:
        target: a name in the store, `hf:org/name`, or a directory.
        layers: the target's layers that the drafter begins with.
        prompts: files of questions; the target writes the others itself.
        openings: a file of beginnings, which the target makes questions of; None: it begins itself.
        text_tokens: how much text to learn from.
        max_tokens: of one text.
        temperatures: of the answers, in turn.
        loss: what training makes small.
        learning_rate: the highest.
        batch_tokens: of a training step.
        epochs: how often each text is learned from.
        seed: of text and training.
        block: how many tokens the drafter can propose in one pass; 1: one, as any model.
        text_of: directories of other distillations, whose text is learned from, too.
        start_from: trained layers to begin with, instead of the target's own; None: its own.
    """

    target: str
    layers: tuple[int, ...]
    prompts: tuple[Path, ...] = ()
    openings: Path | None = None
    text_tokens: int = 400_000
    max_tokens: int = 384
    temperatures: tuple[float, ...] = (1.0, 0.6, 0.0)
    loss: Loss = Loss.KL_TV
    learning_rate: float = 3e-3
    batch_tokens: int = 1024
    epochs: float = 6.0
    seed: int = 0
    block: int = 1
    text_of: tuple[Path, ...] = ()
    start_from: Path | None = None

    def record(self, source: Path) -> dict[str, Any]:
        """What is written down: the request, and what its files hold.

        Args:
            source: the target's directory.
        """
        fields = {name: _plain(value) for name, value in asdict(self).items() if name not in _PATHS}
        return fields | {
            "target": _digest_of_model(source),
            "prompts": [sha256_of(path) for path in self.prompts],
            "openings": sha256_of(self.openings) if self.openings else None,
            "text_of": [sha256_of(path / RECORD_FILE) for path in self.text_of] or None,
            "start_from": sha256_of(self.start_from) if self.start_from else None,
        }


def claim_directory(directory: Path, record: dict[str, Any]) -> None:
    """Make a directory for a request, or find that it belongs to the same one.


    Raises:
        InvalidInputError: it belongs to another request, or holds something else.
        ModelFileError: its record is damaged.
    """
    path = directory / RECORD_FILE
    if path.is_file():
        _refuse_another(directory, _read(path), record)
        return
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InvalidInputError(
            f"'{directory}' exists and is not the work of a distillation; choose another directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    content = json.dumps(record, indent=2) + "\n"
    write_whole(path, lambda file: file.write(content.encode()))


def tokens_written_for(directory: Path, source: Path) -> int:
    """How much text was asked for in another distillation of the same target.

    Args:
        directory: of that distillation.
        source: the target's directory.

    Raises:
        InvalidInputError: it is none, or of another target.
        ModelFileError: its record is damaged.
    """
    path = directory / RECORD_FILE
    if not path.is_file():
        raise InvalidInputError(
            f"'{directory}' is not the work of a distillation; give --text-of a directory that "
            "'outrider models distill' has written."
        )
    record = _read(path)
    if record.get("target") != _digest_of_model(source):
        raise InvalidInputError(
            f"The text in '{directory}' was written by another target; give --text-of what the "
            "same target has written."
        )
    return int(record["text_tokens"])


def _refuse_another(directory: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    for name, value in new.items():
        if old.get(name) != value:
            raise InvalidInputError(
                f"'{directory}' was begun with {name} = {old.get(name)!r}, not {value!r}; "
                "give what it was begun with to go on, or another directory."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(
            f"The record '{path}' is damaged ({error}); choose another directory."
        ) from error
    return document


def _plain(value: Any) -> Any:
    """As JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value


def _digest_of_model(directory: Path) -> str:
    """Of what decides what a model computes, without reading its weights: sizes stand for them."""
    files = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".safetensors"))
    digest = hashlib.sha256()
    for path in files:
        is_small = path.suffix == ".json"
        fact = sha256_of(path) if is_small else path.stat().st_size
        digest.update(f"{path.name} {fact}\n".encode())
    return digest.hexdigest()
