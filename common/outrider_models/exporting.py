"""Exports a model as a drafter bundle, into the store or into a directory of one's own.

What makes the bundle needs torch, and is imported only when there is something to export.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from outrider_common.errors import InvalidInputError
from outrider_models.bundle import MANIFEST_FILE
from outrider_models.directories import fill_directory
from outrider_models.extras import needs_extra
from outrider_models.progress import Progress
from outrider_models.reference import parse_hub_reference
from outrider_models.store import Kind, ModelStore


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export, and how.

    Attributes:
        model: a name in the store, `hf:org/name`, or a directory.
        quantisation: the name of an `outrider_export.Scheme`.
        name: of the bundle; None: made of the model's name and the quantisation.
        max_positions: limit the sequence length below what the model allows; None: do not.
        draft_vocabulary: draft only from so many tokens, the most frequent ones; None: from all.
        draft_text: where to count them; None: by their ids.
        kv_bits: of the keys and values in the KV cache, 8 or 32.
    """

    model: str
    quantisation: str = "int8"
    name: str | None = None
    max_positions: int | None = None
    draft_vocabulary: int | None = None
    draft_text: Path | None = None
    kv_bits: int = 32

    def __post_init__(self) -> None:
        if self.draft_text is not None and self.draft_vocabulary is None:
            raise InvalidInputError(
                f"--draft-text {self.draft_text} says where to count tokens, but not how many to "
                "keep: add --draft-vocabulary."
            )

    @property
    def bundle_name(self) -> str:
        """The name of the bundle that comes of it."""
        hub = parse_hub_reference(self.model)
        plain = hub.store_name if hub else Path(self.model).resolve().name
        cut = "" if self.draft_vocabulary is None else f"-top{self.draft_vocabulary}"
        return self.name or f"{plain}-{self.quantisation}{cut}"


WriteBundle = Callable[[Path, Path, ExportRequest], None]
"""Fills a directory, the second argument, with a bundle of the model in the first."""


def export(
    request: ExportRequest,
    store: ModelStore,
    progress: Progress,
    *,
    write: WriteBundle | None = None,
    out: Path | None = None,
    force: bool = False,
) -> Path:
    """Make sure that a bundle is here.

    Args:
        request: what to export.
        store: where the model is, and where the bundle goes.
        progress: is told what goes on.
        write: makes the bundle, where it is not there; None: `write_bundle`.
        out: the directory of the bundle, instead of a place in the store.
        force: export it again even if it is there.

    Returns:
        The directory of the bundle.

    Raises:
        UnknownModelError: there is no such model.
        InvalidInputError: `out` exists and is not a bundle.
        ModelFileError: the model's files are damaged.
    """

    def fill(directory: Path) -> None:
        source = store.resolve_model(request.model)
        with progress.stage(f"Exporting {request.bundle_name}"):
            (write or write_bundle)(source, directory, request)

    if out is None:
        return store.install(Kind.BUNDLE, request.bundle_name, fill, replace=force)
    _fill_own_directory(out, fill, replace=force)
    return out


def write_bundle(source: Path, directory: Path, request: ExportRequest) -> None:
    """Make a bundle with `outrider_export`.

    Raises:
        MissingExtraError: the `export` extra is not installed.
        UnsupportedError: the model is of a kind that cannot be exported.
        ParityError: the bundle would not compute what the model computes.
        InvalidInputError: there can be no such draft vocabulary.
    """
    with needs_extra("export", "Exporting a bundle"):
        from outrider_export import DraftVocabulary, Scheme
        from outrider_export import write_bundle as write
    size = request.draft_vocabulary
    write(
        source,
        directory,
        scheme=Scheme(request.quantisation),
        name=request.bundle_name,
        source_name=request.model,
        max_positions=request.max_positions,
        vocabulary=None if size is None else DraftVocabulary(size, request.draft_text),
        kv_bits=request.kv_bits,
    )


def _fill_own_directory(out: Path, fill: Callable[[Path], None], *, replace: bool) -> None:
    is_bundle = (out / MANIFEST_FILE).is_file()
    if is_bundle and not replace:
        return
    if out.exists() and not is_bundle:
        raise InvalidInputError(f"{out} exists and is not a bundle: choose another directory.")
    out.parent.mkdir(parents=True, exist_ok=True)
    fill_directory(out, fill)
