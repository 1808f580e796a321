"""Shards that are written until there is enough text."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from outrider_distill.assignments import Assignment, Assignments
from outrider_distill.corpus import Corpus
from outrider_distill.samples import Sample
from outrider_distill.writing import Writer


class Silent:
    def advance(self, num_tokens: int) -> None: ...


class InterruptedWritingError(Exception):
    """As Ctrl-C in the middle of a shard."""


class Flaky:
    """A writer that is interrupted after some shards."""

    def __init__(self, writer: Writer, num_shards: int) -> None:
        self._writer, self._left = writer, num_shards

    def write(
        self, assignments: Iterable[Assignment], tell: Callable[[int], object]
    ) -> list[Sample]:
        if not self._left:
            raise InterruptedWritingError
        self._left -= 1
        return self._writer.write(assignments, tell)


def contents(directory: Path) -> dict[str, list[list[int]]]:
    corpus = {path.name: path for path in directory.iterdir()}
    return {
        name: [sample.tokens.tolist() for sample in Corpus(directory, 4).samples(10**9)]
        for name in corpus
    }


def test_an_interrupted_corpus_goes_on_to_the_same_text(
    tmp_path: Path, tiny_writer: Writer, tiny_assignments: Assignments
) -> None:
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    Corpus(straight, 4).extend(tiny_writer, tiny_assignments, 400, Silent())
    corpus = Corpus(stopped, 4)
    flaky: object = Flaky(tiny_writer, 2)
    with pytest.raises(InterruptedWritingError):
        corpus.extend(flaky, tiny_assignments, 400, Silent())  # type: ignore[arg-type]
    corpus.extend(tiny_writer, tiny_assignments, 400, Silent())
    assert len(contents(straight)) > 2
    assert contents(stopped) == contents(straight)


def test_text_number_n_is_that_of_assignment_number_n(
    tmp_path: Path, tiny_writer: Writer, tiny_assignments: Assignments
) -> None:
    corpus = Corpus(tmp_path / "text", 4)
    corpus.extend(tiny_writer, tiny_assignments, 400, Silent())
    samples = list(corpus.samples(400))
    expected = tiny_writer.write([tiny_assignments[number] for number in range(len(samples))])
    for sample, other in zip(samples, expected, strict=True):
        assert sample.tokens.tolist() == other.tokens.tolist()


def test_there_is_never_less_text_than_asked_for_nor_a_shard_more(
    tmp_path: Path, tiny_writer: Writer, tiny_assignments: Assignments
) -> None:
    corpus = Corpus(tmp_path / "text", 4)
    assert corpus.num_missing_rows(300) == 300
    corpus.extend(tiny_writer, tiny_assignments, 300, Silent())
    assert corpus.num_missing_rows(300) == 0
    sizes = [sample.num_rows for sample in corpus.samples(10**9)]
    assert sum(sizes) >= 300 > sum(sizes[:-4])


def test_text_that_was_asked_for_first_stays_the_first_when_there_is_more(
    tmp_path: Path, tiny_writer: Writer, tiny_assignments: Assignments
) -> None:
    corpus = Corpus(tmp_path / "text", 4)
    corpus.extend(tiny_writer, tiny_assignments, 100, Silent())
    first = [sample.tokens.tolist() for sample in corpus.samples(100)]
    corpus.extend(tiny_writer, tiny_assignments, 400, Silent())
    assert [sample.tokens.tolist() for sample in corpus.samples(100)] == first
    assert len(list(corpus.samples(400))) > len(first)
