"""Makes a bundle of trained layers: embeddings and head come from the target, which is here.

So a drafter travels as its own layers alone. Knows nothing of training.
"""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedModel

from outrider_cloud.loading import load_causal_lm
from outrider_common.errors import MismatchError
from outrider_distill.chat_format import load_tokenizer
from outrider_distill.student import (
    build_student,
    read_description,
    read_trained,
    settle_masks,
    write_trained,
)
from outrider_distill.target_config import target_config
from outrider_models.bundle import tokenizer_fingerprint
from outrider_models.exporting import ExportRequest, export, write_bundle
from outrider_models.progress import Progress
from outrider_models.store import ModelStore

_FINGERPRINT: Final = "tokenizer_fingerprint"


@dataclass(frozen=True, slots=True)
class Made:
    """What a drafter was made of.

    Attributes:
        layers: of the target.
        masks: tokens of the target that stand for masks; empty where it does not look ahead.
        target: its name.
    """

    layers: tuple[int, ...]
    masks: tuple[int, ...]
    target: str


def write_layers(student: PreTrainedModel, path: Path, made: Made, tokenizer: Any) -> None:
    """Write what is needed of a student beside its target.

    Args:
        student: the trained model.
        path: the file.
        made: what it was made of.
        tokenizer: of the target.
    """
    fingerprint = tokenizer_fingerprint(tokenizer.get_vocab())
    write_trained(student, path, asdict(made) | {_FINGERPRINT: fingerprint})


def assemble(
    trained: Path,
    store: ModelStore,
    progress: Progress,
    *,
    target: str | None = None,
    quantisation: str = "int8",
    name: str | None = None,
    out: Path | None = None,
    force: bool = False,
    draft_vocabulary: int | None = None,
    draft_text: Path | None = None,
) -> Path:
    """Make a bundle of trained layers and their target.

    Args:
        trained: the file of `write_layers`.
        store: where the target is, and where the bundle goes.
        progress: is told what goes on.
        target: a name in the store, or a directory; None: what the file says.
        quantisation: the name of an `outrider_export.Scheme`.
        name: of the bundle; None: made of the target's name, the layers, the quantisation and the
            size of the draft vocabulary.
        out: the directory of the bundle, instead of a place in the store.
        force: make it again even if it is there.
        draft_vocabulary: draft only from so many tokens, the most frequent ones; None: from all.
        draft_text: where to count them; None: by their ids.

    Returns:
        The directory of the bundle.

    Raises:
        ModelFileError: the file or the target's files are damaged, or do not fit together.
        MismatchError: the target has another tokenizer than the one that was learned from.
        UnknownModelError: the target is not here.
    """
    description = read_description(trained)
    model = target or description["target"]
    cut = "" if draft_vocabulary is None else f"-top{draft_vocabulary}"
    plain = f"{Path(model).name}-{len(description['layers'])}-layers-{quantisation}{cut}"

    def write(source: Path, directory: Path, request: ExportRequest) -> None:
        _refuse_strangers(source, description, trained)
        with tempfile.TemporaryDirectory(prefix=".assembling-", dir=directory.parent) as scratch:
            _write_model(source, description, trained, Path(scratch))
            write_bundle(Path(scratch), directory, request)

    request = ExportRequest(
        model,
        quantisation,
        name or plain,
        draft_vocabulary=draft_vocabulary,
        draft_text=draft_text,
    )
    return export(request, store, progress, write=write, out=out, force=force)


def _refuse_strangers(source: Path, description: dict[str, Any], trained: Path) -> None:
    fingerprint = tokenizer_fingerprint(load_tokenizer(source).get_vocab())
    if fingerprint != description[_FINGERPRINT]:
        raise MismatchError(
            f"The layers in '{trained}' were trained for '{description['target']}', and '{source}' "
            "has another tokenizer; give the target that they were trained for."
        )


def _write_model(source: Path, description: dict[str, Any], trained: Path, directory: Path) -> None:
    """Write the whole drafter as a model directory."""
    target_config(source)
    target = load_causal_lm(source, lambda config: None)
    student = build_student(target, description["layers"], description["masks"])
    read_trained(student, trained)
    if description["masks"]:
        settle_masks(student, description["masks"])
    student.save_pretrained(directory)
    load_tokenizer(source).save_pretrained(directory)
