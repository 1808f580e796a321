"""Answers of a target to the questions of an evaluation. Knows nothing of drafters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from outrider_cloud.torch_target import TorchTarget
from outrider_common.prompts import Prompt
from outrider_common.sampling import SamplingParams
from outrider_distill.assignments import Assignment
from outrider_distill.chat_format import ChatFormat
from outrider_distill.writing import Writer, WritingLimits

NUM_TEXTS: Final = 16
"""Answers that are written together."""


class EvaluationProgress(Protocol):
    """Watches an evaluation."""

    def begin_answers(self, num_answers: int) -> None:
        """So many answers will be written, and guessed by all drafters."""
        ...

    def answered(self, num_answers: int) -> None:
        """So many more are done."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        bundles: names in the store, or directories; all are judged by the same answers.
        target: a name in the store, `hf:org/name`, or a directory.
        prompts: a file of questions.
        most_per_task: of each task at most so many questions; None: all.
        max_tokens: of an answer.
        temperatures: at which answers are written.
        seed: of sampled answers.
        num_threads: of drafters and target.
    """

    bundles: tuple[str, ...]
    target: str
    prompts: Path
    most_per_task: int | None = None
    max_tokens: int = 128
    temperatures: tuple[float, ...] = (0.0, 1.0)
    seed: int = 0
    num_threads: int = 1


def first_of_each_task(prompts: Sequence[Prompt], most_per_task: int | None) -> list[Prompt]:
    """The first prompts of each task."""
    if most_per_task is None:
        return list(prompts)
    chosen: list[Prompt] = []
    counts: dict[str, int] = {}
    for prompt in prompts:
        counts[prompt.task] = counts.get(prompt.task, 0) + 1
        if counts[prompt.task] <= most_per_task:
            chosen.append(prompt)
    return chosen


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target said.

    Attributes:
        task: what kind of question it was.
        tokens: of question and answer.
        begin: where the answer begins.
        sampling: how it was chosen.
    """

    task: str
    tokens: Sequence[int]
    begin: int
    sampling: SamplingParams


class Questions:
    """The questions, as tokens.

    Args:
        prompts: the questions.
        chat: how the target's template frames them.
        tokenizer: of the target.
        vocab_size: of the target.
        request: what to evaluate.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        chat: ChatFormat,
        tokenizer: Any,
        vocab_size: int,
        request: EvaluationRequest,
    ) -> None:
        self._prompts, self._chat, self._request = prompts, chat, request
        encoded = [prompt.encode(tokenizer, vocab_size) for prompt in prompts]
        self._given = [chat.framed(tokens) for tokens in encoded]

    def __len__(self) -> int:
        return len(self._given)

    @property
    def longest(self) -> int:
        """Tokens of the longest question and its answer."""
        return max(map(len, self._given)) + self._request.max_tokens

    def answers(self, target: TorchTarget, temperature: float) -> Iterator[list[Answer]]:
        """The answers, as many at a time as are written together."""
        limits = WritingLimits(self.longest, num_texts=NUM_TEXTS, top_k=1)
        writer = Writer(target, self._chat, limits)
        for begin in range(0, len(self), NUM_TEXTS):
            part = range(begin, min(begin + NUM_TEXTS, len(self)))
            samples = writer.write([self._assignment(i, temperature) for i in part])
            yield [
                Answer(
                    self._prompts[i].task,
                    sample.tokens.tolist(),
                    len(self._given[i]),
                    self._sampling(i, temperature),
                )
                for i, sample in zip(part, samples, strict=True)
            ]

    def _sampling(self, index: int, temperature: float) -> SamplingParams:
        return SamplingParams(temperature=temperature, seed=self._request.seed + index)

    def _assignment(self, index: int, temperature: float) -> Assignment:
        given = self._given[index]
        most = len(given) + self._request.max_tokens
        return Assignment(given, False, self._sampling(index, temperature), most)
