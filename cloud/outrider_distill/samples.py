"""Text that a target wrote, with what it thought of every next token; and shards of it on disk.

A shard appears whole or not at all. Knows nothing of how text is written or learned from.
"""

import errno
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from outrider_common.errors import ModelFileError, UnavailableError

Ids = NDArray[np.int32]
Floats = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Sample:
    """One text of the target.

    Attributes:
        tokens: [n].
        begin: the first row to learn from; those before are the same in every text.
        top_ids: at row i the most probable tokens behind tokens[: i + 1], [n - 1, k].
        top_log_probs: their log-probabilities at temperature 1, [n - 1, k].
    """

    tokens: Ids
    begin: int
    top_ids: Ids
    top_log_probs: Floats

    @property
    def num_rows(self) -> int:
        """How many rows there are to learn from."""
        return len(self.tokens) - 1 - self.begin


def write_shard(path: Path, samples: Sequence[Sample], seconds: float = 0.0) -> None:
    """Keep samples in a file.

    Args:
        path: of the file.
        samples: what it is to hold.
        seconds: that it took to write them.

    Raises:
        UnavailableError: the disk is full.
    """
    arrays: dict[str, NDArray[Any]] = {
        "lengths": np.array([len(sample.tokens) for sample in samples], np.int32),
        "begins": np.array([sample.begin for sample in samples], np.int32),
        "tokens": np.concatenate([sample.tokens for sample in samples]),
        "top_ids": np.concatenate([sample.top_ids for sample in samples]),
        "top_log_probs": np.concatenate([sample.top_log_probs for sample in samples]),
        "seconds": np.array(seconds),
    }
    write_whole(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_shard(path: Path) -> list[Sample]:
    """The samples of a shard.

    Raises:
        ModelFileError: the file is damaged.
    """
    with _damage_named(path), np.load(path, allow_pickle=False) as stored:
        return list(_samples({name: stored[name] for name in stored.files}))


def read_seconds(path: Path) -> float:
    """How long it took to write a shard; 0 where that is not known.

    Raises:
        ModelFileError: the file is damaged.
    """
    with _damage_named(path), np.load(path, allow_pickle=False) as stored:
        return float(stored["seconds"]) if "seconds" in stored.files else 0.0


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"The text in '{path}' is damaged ({error}); delete that file, and it is written again."
        ) from error


def _samples(arrays: dict[str, NDArray[Any]]) -> Sequence[Sample]:
    ends = np.cumsum(arrays["lengths"])
    if ends[-1] != len(arrays["tokens"]):
        raise ValueError(f"{len(arrays['tokens'])} tokens instead of {ends[-1]}")
    samples = []
    for number, (end, length) in enumerate(zip(ends, arrays["lengths"], strict=True)):
        rows = slice(end - length - number, end - number - 1)  # a row less for every text before
        samples.append(
            Sample(
                tokens=arrays["tokens"][end - length : end],
                begin=int(arrays["begins"][number]),
                top_ids=arrays["top_ids"][rows],
                top_log_probs=arrays["top_log_probs"][rows],
            )
        )
    return samples


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Make or replace a file so that nobody ever sees a part of it.

    Raises:
        UnavailableError: the disk is full.
    """
    incoming = path.with_name(f".{path.name}.incoming")
    try:
        with incoming.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        incoming.replace(path)
    except OSError as error:
        incoming.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UnavailableError(
            f"The disk of '{path.parent}' is full; free some room and give the same command again: "
            "it goes on where it was."
        ) from error
