"""Answers of a target, and the rank of each of their tokens among a drafter's guesses.

The drafter guesses as the edge would have it do: with its bundle, and with the target's noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from outrider_cloud.torch_target import TorchTarget
from outrider_common.errors import InvalidInputError
from outrider_common.prompts import Prompt
from outrider_common.sampling import SamplingParams
from outrider_distill.assignments import Assignment
from outrider_distill.chat_format import ChatFormat
from outrider_distill.samples import Sample
from outrider_distill.speculation import MOST_GUESSES, Ranks
from outrider_distill.writing import Writer, WritingLimits
from outrider_edge.onnx_model import OnnxModel
from outrider_edge.ranking import Ranker

NUM_TEXTS: Final = 16
"""Answers that are written together."""


class EvaluationProgress(Protocol):
    """Watches an evaluation."""

    def begin_answers(self, num_answers: int) -> None:
        """So many answers will be written and guessed."""
        ...

    def answered(self, num_answers: int) -> None:
        """So many more are done."""
        ...


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """What to evaluate.

    Attributes:
        bundle: a name in the store, or a directory.
        target: a name in the store, `hf:org/name`, or a directory.
        prompts: a file of questions.
        most_per_task: of each task at most so many questions; None: all.
        max_tokens: of an answer.
        temperatures: at which answers are written.
        seed: of sampled answers.
        num_threads: of drafter and target.
    """

    bundle: str
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


class Questions:
    """The questions, and who guesses the answers.

    Args:
        prompts: the questions.
        chat: how the target's template frames them.
        tokenizer: of the target.
        request: what to evaluate.
        drafter: guesses.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        chat: ChatFormat,
        tokenizer: Any,
        request: EvaluationRequest,
        drafter: OnnxModel,
    ) -> None:
        self._prompts, self._chat = prompts, chat
        self._request, self._drafter = request, drafter
        encoded = [prompt.encode(tokenizer, drafter.vocab_size) for prompt in prompts]
        self._given = [chat.framed(tokens) for tokens in encoded]
        self.longest = max(map(len, self._given)) + request.max_tokens
        if self.longest > drafter.max_positions:
            raise InvalidInputError(
                f"The longest prompt has {self.longest - request.max_tokens} tokens, but with an "
                f"answer only {drafter.max_positions} fit into the drafter; leave it out."
            )

    def ranks(
        self, target: TorchTarget, temperature: float, progress: EvaluationProgress
    ) -> dict[str, list[Ranks]]:
        """Of every answer the ranks of its tokens, by task."""
        limits = WritingLimits(self.longest, num_texts=NUM_TEXTS, top_k=1)
        writer = Writer(target, self._chat, limits)
        by_task: dict[str, list[Ranks]] = {}
        for begin in range(0, len(self._given), NUM_TEXTS):
            part = range(begin, min(begin + NUM_TEXTS, len(self._given)))
            samples = writer.write([self._assignment(i, temperature) for i in part])
            for i, sample in zip(part, samples, strict=True):
                ranks = self._ranks(i, sample, temperature)
                by_task.setdefault(self._prompts[i].task, []).append(ranks)
            progress.answered(len(part))
        return by_task

    def _sampling(self, index: int, temperature: float) -> SamplingParams:
        return SamplingParams(temperature=temperature, seed=self._request.seed + index)

    def _assignment(self, index: int, temperature: float) -> Assignment:
        given = self._given[index]
        most = len(given) + self._request.max_tokens
        return Assignment(given, False, self._sampling(index, temperature), most)

    def _ranks(self, index: int, sample: Sample, temperature: float) -> Ranks:
        """The rank of each token of an answer among the drafter's guesses, with the same noise."""
        prompt_length = len(self._given[index])
        tokens = sample.tokens.tolist()
        drafter = self._drafter
        sampling = self._sampling(index, temperature)
        ranker = Ranker(sampling, drafter.num_logits, drafter.token_ids)
        rows = drafter.new_sequence().forward(tokens[:-1], num_logits=len(tokens) - prompt_length)
        ranks = np.full(len(rows), MOST_GUESSES, np.int64)
        for row, logits in enumerate(rows):
            position = prompt_length + row
            guesses = ranker.rank(logits, position, (), (), MOST_GUESSES).tokens
            if tokens[position] in guesses:
                ranks[row] = guesses.index(tokens[position])
        return ranks
