"""The training text of a run: shards in a directory, written until there is enough.

A shard is a pure function of the run's assignments and its number, so an interrupted run goes on
with the shard that it was at, and more text can be asked for later. Knows nothing of training.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from outrider_distill.assignments import Assignments
from outrider_distill.cost import Cost
from outrider_distill.samples import Sample, read_seconds, read_shard, write_shard
from outrider_distill.writing import Writer

TEXTS_PER_SHARD: Final = 256


class WritingProgress(Protocol):
    """Watches how text is written."""

    def advance(self, num_tokens: int) -> None:
        """So many tokens more have been written."""
        ...


class Corpus:
    """Shards of text in a directory.

    Args:
        directory: where they are; made when the first is written.
        texts_per_shard: how many texts a shard has.
    """

    def __init__(self, directory: Path, texts_per_shard: int = TEXTS_PER_SHARD) -> None:
        self._directory = directory
        self._texts_per_shard = texts_per_shard

    def extend(
        self, writer: Writer, assignments: Assignments, num_rows: int, progress: WritingProgress
    ) -> None:
        """Write shards until there are at least `num_rows` rows to learn from."""
        self._directory.mkdir(exist_ok=True)
        while self.num_missing_rows(num_rows):
            number = self._num_shards()
            first = number * self._texts_per_shard
            wanted = (assignments[first + i] for i in range(self._texts_per_shard))
            began = time.perf_counter()
            samples = writer.write(wanted, progress.advance)
            write_shard(self._path(number), samples, time.perf_counter() - began)

    def num_missing_rows(self, num_rows: int) -> int:
        """How many rows there are too few of; 0 if there are enough."""
        return max(0, num_rows - sum(sample.num_rows for sample in self.samples(num_rows)))

    def samples(self, num_rows: int) -> Iterator[Sample]:
        """The texts of the first shards that have together at least `num_rows` rows."""
        number, so_far = 0, 0
        while so_far < num_rows and self._path(number).is_file():
            for sample in read_shard(self._path(number)):
                so_far += sample.num_rows
                yield sample
            number += 1

    def cost(self) -> Cost:
        """How much was written in which time, as far as the latter is known."""
        paths = [self._path(number) for number in range(self._num_shards())]
        timed = [(path, seconds) for path in paths if (seconds := read_seconds(path))]
        num_rows = sum(sample.num_rows for path, _ in timed for sample in read_shard(path))
        return Cost(num_rows, sum(seconds for _, seconds in timed))

    def _num_shards(self) -> int:
        """How many there are without a gap."""
        number = 0
        while self._path(number).is_file():
            number += 1
        return number

    def _path(self, number: int) -> Path:
        return self._directory / f"text-{number:05d}.npz"
