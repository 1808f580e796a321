"""The model store: a directory of models and drafter bundles, each complete or not there at all.

An entry is filled in a directory beside its final place, under a file lock, and renamed when it is
complete. Knows nothing of where models come from or what is in them.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from outrider_common.errors import ModelFileError, UnknownModelError
from outrider_models.checksums import FileRecord, check_files, record_files
from outrider_models.directories import fill_directory
from outrider_models.extras import needs_extra
from outrider_models.reference import HubReference, parse_hub_reference

CHECKSUM_FILE = "checksums.json"
"""Beside the files of a model: the size and SHA-256 of each."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")


class Kind(StrEnum):
    """What an entry of the store is; the value is the folder that holds such entries."""

    MODEL = "models"
    BUNDLE = "bundles"

    @property
    def noun(self) -> str:
        """The word for one of them."""
        return self.value.removesuffix("s")


_MARKER = {Kind.MODEL: "config.json", Kind.BUNDLE: "manifest.json"}
_HOW_TO_GET = {
    Kind.MODEL: "outrider models pull {name}",
    Kind.BUNDLE: "outrider models export MODEL",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model or bundle in the store.

    Attributes:
        kind: model or bundle.
        name: its name in the store.
        path: its directory.
        size: of all its files, in bytes.
    """

    kind: Kind
    name: str
    path: Path
    size: int


def default_root() -> Path:
    """The store of this user: `outrider` under `$XDG_CACHE_HOME`, or under `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "outrider"


class ModelStore:
    """Models and bundles under one directory, shared by any number of processes.

    Args:
        root: the directory; made when something is first installed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def root(self) -> Path:
        """The directory that holds everything."""
        return self._root

    def path_of(self, kind: Kind, name: str) -> Path:
        """Where an entry of this name is, or would be.

        Raises:
            UnknownModelError: the name cannot be that of an entry.
        """
        if not _NAME.fullmatch(name):
            raise UnknownModelError(
                f"{name!r} cannot be a name in the model store: use letters, digits and '._@-'."
            )
        return self._root / kind / name

    def has(self, kind: Kind, name: str) -> bool:
        """Whether an entry is there, complete."""
        return (self.path_of(kind, name) / _MARKER[kind]).is_file()

    def entries(self) -> list[Entry]:
        """All models and bundles, by kind and name."""
        return [self._entry(kind, name) for kind in Kind for name in self._names(kind)]

    def find(self, name: str) -> Entry:
        """The model of this name, or else the bundle; `hf:org/name` is a name, too.

        Raises:
            UnknownModelError: the store has neither.
        """
        hub = parse_hub_reference(name)
        plain = hub.store_name if hub else name
        for kind in Kind:
            if self.has(kind, plain):
                return self._entry(kind, plain)
        raise self._unknown(Kind.MODEL, name, hub)

    def _entry(self, kind: Kind, name: str) -> Entry:
        path = self.path_of(kind, name)
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        return Entry(kind, name, path, size)

    def _names(self, kind: Kind) -> list[str]:
        folder = self._root / kind
        if not folder.is_dir():
            return []
        names = (path.name for path in folder.iterdir() if _NAME.fullmatch(path.name))
        return sorted(name for name in names if self.has(kind, name))

    def install(
        self,
        kind: Kind,
        name: str,
        fill: Callable[[Path], None],
        *,
        replace: bool = False,
        resumable: bool = False,
    ) -> Path:
        """Make an entry unless it is there, so that nobody ever sees a part of it.

        Only one process fills an entry at a time; the others wait for it and then find it.

        Args:
            kind: model or bundle.
            name: of the entry.
            fill: writes the files into the directory that it is given.
            replace: fill it anew even where it is there.
            resumable: keep what `fill` wrote before it failed, for the next attempt to find.

        Returns:
            The directory of the entry.

        Raises:
            UnknownModelError: the name cannot be that of an entry.
        """
        final = self.path_of(kind, name)
        with self._locked(final):
            if replace or not self.has(kind, name):
                fill_directory(final, fill, resumable=resumable)
        return final

    @contextmanager
    def _locked(self, final: Path) -> Iterator[None]:
        with needs_extra("export", "Installing a model"):
            from filelock import FileLock
        final.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(final.with_name(f".{final.name}.lock")):
            yield

    def resolve_model(self, name_or_path: str) -> Path:
        """The directory of a model: a store name, `hf:org/name`, or a directory of one's own.

        Raises:
            UnknownModelError: there is no such model; the message names those that are there.
            ModelFileError: it is in the store, but files are missing or have another size.
        """
        path = self._resolve(Kind.MODEL, name_or_path)
        if (path / CHECKSUM_FILE).is_file():
            verify_checksums(path, contents=False)
        return path

    def resolve_bundle(self, name_or_path: str) -> Path:
        """The directory of a drafter bundle: a store name or a directory of one's own.

        Its files are checked when it is loaded, not here.

        Raises:
            UnknownModelError: there is no such bundle; the message names those that are there.
        """
        return self._resolve(Kind.BUNDLE, name_or_path)

    def _resolve(self, kind: Kind, name_or_path: str) -> Path:
        hub = parse_hub_reference(name_or_path)
        name = hub.store_name if hub else name_or_path
        if _NAME.fullmatch(name) and self.has(kind, name):
            return self.path_of(kind, name)
        directory = Path(name_or_path).expanduser()
        if not hub and (directory / _MARKER[kind]).is_file():
            return directory
        raise self._unknown(kind, name_or_path, hub)

    def _unknown(self, kind: Kind, asked: str, hub: HubReference | None) -> UnknownModelError:
        there = ", ".join(self._names(kind)) or "none"
        command = _HOW_TO_GET[kind].format(name=str(hub) if hub else asked)
        return UnknownModelError(
            f"There is no {kind.noun} {asked!r}: it is not a directory with a {_MARKER[kind]}, "
            f"and the {kind} in {self._root} are: {there}; get it with '{command}'."
        )


def write_checksums(directory: Path, *, source: str) -> None:
    """Record the size and SHA-256 of every file of a model, in a file beside them.

    Args:
        directory: the model; its files lie directly in it or in folders below.
        source: where the model came from, for people to read.
    """
    files = (path for path in directory.rglob("*") if path.is_file())
    names = [path.relative_to(directory).as_posix() for path in files]
    records = record_files(directory, (name for name in names if name != CHECKSUM_FILE))
    document = {"source": source, "files": {name: asdict(r) for name, r in records.items()}}
    text = json.dumps(document, indent=2) + "\n"
    (directory / CHECKSUM_FILE).write_text(text, encoding="utf-8")


def verify_checksums(directory: Path, *, contents: bool) -> None:
    """Check a model against the file that `write_checksums` wrote.

    Args:
        directory: the model.
        contents: also hash every file; otherwise only existence and size are compared.

    Raises:
        ModelFileError: a file is missing or differs, or the record itself cannot be read.
    """
    remedy = f"pull the model again with 'outrider models pull --force {directory.name}'"
    files = _read_checksums(directory / CHECKSUM_FILE, remedy)
    check_files(directory, files, contents=contents, remedy=remedy)


def _read_checksums(path: Path, remedy: str) -> dict[str, FileRecord]:
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        return {name: FileRecord(**record) for name, record in document["files"].items()}
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: {remedy}.") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a list of checksums: {remedy}.") from error
