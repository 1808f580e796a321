"""Where the journal's answers are: files of one directory, or the memory of this process.

Knows nothing of bounds, and nothing of what is kept. What is on disk waits for the disk.
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

_SUFFIX: Final = ".answer"


@dataclass(frozen=True, slots=True)
class Found:
    """What was kept by a process before this one.

    Attributes:
        name: under which.
        num_bytes: its size.
        written_at: when it was last written to, in seconds since 1970.
    """

    name: str
    num_bytes: int
    written_at: float


class Storage(Protocol):
    """Keeps content under names. What is on disk may raise an `OSError` at everything."""

    def found(self) -> Iterator[Found]:
        """What is there from before."""
        ...

    def read(self, name: str) -> bytes:
        """What is kept under a name; something is."""
        ...

    def cut(self, name: str, num_bytes: int) -> None:
        """Keep so much of it, and nothing where there was nothing."""
        ...

    def append(self, name: str, content: bytes, *, is_last: bool) -> None:
        """Add to what is there; the last of it is safe when this returns."""
        ...

    def remove(self, name: str) -> None:
        """Keep nothing under a name any more."""
        ...

    def close(self) -> None:
        """Let another process have it."""
        ...


class DiskStorage:
    """Files in a directory, for this user only; one process at a time has it.

    Args:
        directory: made if it is not there.

    Raises:
        OSError: it cannot be used; a `BlockingIOError` if another process has it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(self._lock)
            raise

    def found(self) -> Iterator[Found]:
        """See `Storage.found`; likewise for the others."""
        for path in self._directory.glob(f"*{_SUFFIX}"):
            status = path.stat()
            yield Found(path.stem, status.st_size, status.st_mtime)

    def read(self, name: str) -> bytes:
        """The whole file."""
        return self._path(name).read_bytes()

    def cut(self, name: str, num_bytes: int) -> None:
        """Shorten the file, or make it."""
        handle = os.open(self._path(name), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, num_bytes)
        finally:
            os.close(handle)

    def append(self, name: str, content: bytes, *, is_last: bool) -> None:
        """Add to the file; the last of it is on the disk when this returns."""
        handle = os.open(self._path(name), os.O_WRONLY | os.O_APPEND)
        try:
            _write_all(handle, content)
            if is_last:
                os.fsync(handle)
        finally:
            os.close(handle)

    def remove(self, name: str) -> None:
        """Delete the file."""
        self._path(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Unlock the directory."""
        os.close(self._lock)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}"


@dataclass(slots=True)
class MemoryStorage:
    """Keeps it until the process ends; nothing of it is on disk."""

    _contents: dict[str, bytearray] = field(init=False, default_factory=dict)

    def found(self) -> Iterator[Found]:
        """Nothing: this process is new."""
        return iter(())

    def read(self, name: str) -> bytes:
        """What is kept."""
        return bytes(self._contents[name])

    def cut(self, name: str, num_bytes: int) -> None:
        """Shorten it."""
        del self._contents.setdefault(name, bytearray())[num_bytes:]

    def append(self, name: str, content: bytes, *, is_last: bool) -> None:
        """Add to it."""
        self._contents[name] += content

    def remove(self, name: str) -> None:
        """Forget it."""
        self._contents.pop(name, None)

    def close(self) -> None:
        """Nothing to do."""


def _write_all(handle: int, content: bytes) -> None:
    while content:
        content = content[os.write(handle, content) :]
