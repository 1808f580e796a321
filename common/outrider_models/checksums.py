"""Checksums of the files of a directory: what a model or bundle should hold, and whether it does.

Sizes are compared cheaply, contents by SHA-256. Knows nothing of models, stores or downloads.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from outrider_common.errors import ModelFileError


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is known of one file.

    Attributes:
        size: in bytes.
        sha256: of the contents, 64 lower-case hexadecimal digits.
    """

    size: int
    sha256: str

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"a file cannot have {self.size} bytes")
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise ValueError(f"{self.sha256!r} is not a SHA-256 in lower-case hexadecimal digits")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's contents, as 64 lower-case hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_files(directory: Path, names: Iterable[str]) -> dict[str, FileRecord]:
    """Measure and hash the named files.

    Args:
        directory: where they are.
        names: relative paths with forward slashes.
    """
    return {name: _record(directory / name) for name in sorted(names)}


def _record(path: Path) -> FileRecord:
    return FileRecord(path.stat().st_size, sha256_of(path))


def check_files(
    directory: Path, files: Mapping[str, FileRecord], *, contents: bool, remedy: str
) -> None:
    """Check that a directory holds the recorded files. Other files in it are ignored.

    Args:
        directory: where they should be.
        files: relative path to record.
        contents: also hash every file; otherwise only existence and size are compared.
        remedy: what the reader should do when a file is bad, as the end of a sentence.

    Raises:
        ModelFileError: a file is missing, has another size, or other contents.
    """
    for name, record in files.items():
        _check_file(directory, name, record, contents=contents, remedy=remedy)


def _check_file(
    directory: Path, name: str, record: FileRecord, *, contents: bool, remedy: str
) -> None:
    path = directory / name
    if not is_plain_relative(name):
        raise ModelFileError(f"{directory} lists the file {name!r} outside of itself: {remedy}.")
    if not path.is_file():
        raise ModelFileError(f"{path} is missing: {remedy}.")
    size = path.stat().st_size
    if size != record.size:
        raise ModelFileError(f"{path} has {size} bytes instead of {record.size}: {remedy}.")
    if contents and sha256_of(path) != record.sha256:
        raise ModelFileError(f"{path} does not match its checksum: {remedy}.")


def is_plain_relative(name: str) -> bool:
    """Whether a name stays inside the directory that it is relative to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts
