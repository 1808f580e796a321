"""The answers that drafting policies are measured on: what the target says to real prompts.

Its engine writes them once; afterwards they are read from a file. Knows nothing of drafts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench_workload import PROMPT_FILE
from pydantic import TypeAdapter, ValidationError
from rich.progress import Progress

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.engine import EngineEvent
from outrider_cloud.server import build_engine
from outrider_common.errors import OutriderError
from outrider_common.messages import OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_models.store import ModelStore

LONGEST_PROMPT: Final = 600
"""Longer ones take minutes and say nothing else of drafting."""

_REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Task:
    """A prompt by the chat template, and the kind of work that it asks for."""

    kind: str
    prompt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the target says to a task: the draft's judge.

    Attributes:
        task: what was asked.
        tokens: of the answer, at least one.
        temperature: 0 for greedy.
        seed: of the target's noise.
    """

    task: Task
    tokens: tuple[int, ...]
    temperature: float
    seed: int

    @property
    def sampling(self) -> SamplingParams:
        """How the target chose."""
        return SamplingParams(temperature=self.temperature, seed=self.seed)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers to record.

    Attributes:
        model: the target.
        num_per_kind: so many tasks of each kind that the file knows.
        num_tokens: the longest answer.
        temperatures: each task is answered once at each.
    """

    model: str
    num_per_kind: int
    num_tokens: int
    temperatures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Recording:
    """Answers, and what was wanted of them."""

    wanted: Wanted
    answers: tuple[Answer, ...]


_RECORDING: Final = TypeAdapter(Recording)


def recorded(wanted: Wanted, file: Path, store: ModelStore, progress: Progress) -> Recording:
    """The recording in a file; it is made and kept there if the file holds another one or none."""
    try:
        found = _RECORDING.validate_json(file.read_bytes())
    except (OSError, ValidationError):
        found = None
    if found is None or found.wanted != wanted:
        found = _record(wanted, store, progress)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_RECORDING.dump_json(found))
    return found


def chosen_tasks(tokenizer: EdgeTokenizer, num_per_kind: int) -> list[Task]:
    """The first tasks of each kind whose prompts are not too long."""
    lines = (_REPOSITORY / PROMPT_FILE).read_text(encoding="utf-8").splitlines()
    by_kind: dict[str, list[Task]] = {}
    for entry in map(json.loads, lines):
        chosen = by_kind.setdefault(entry["category"], [])
        if len(chosen) < num_per_kind:
            prompt = tokenizer.encode_chat([{"role": "user", "content": entry["turns"][0]}])
            if len(prompt) <= LONGEST_PROMPT:
                chosen.append(Task(entry["category"], tuple(prompt)))
    return [task for tasks in by_kind.values() for task in tasks]


def _record(wanted: Wanted, store: ModelStore, progress: Progress) -> Recording:
    tokenizer = EdgeTokenizer.load(store.resolve_model(wanted.model))
    tasks = chosen_tasks(tokenizer, wanted.num_per_kind)
    engine = build_engine(VerifierSettings(model=wanted.model), store)
    answers: list[Answer] = []
    for temperature in wanted.temperatures:
        drafts = [Answer(task, (), temperature, seed) for seed, task in enumerate(tasks)]
        answers += _answered(drafts, wanted.num_tokens, engine, progress)
    return Recording(wanted, tuple(answers))


def _answered(
    asked: Sequence[Answer], num_tokens: int, engine: BatchingEngine, progress: Progress
) -> list[Answer]:
    """Fill in the tokens, all answers in one batch."""
    bar = progress.add_task("the target's answers", total=len(asked))
    texts: list[list[int]] = [[] for _ in asked]
    is_done = [False] * len(asked)

    def hear(index: int, event: EngineEvent) -> None:
        if isinstance(event, OutriderError):
            raise event
        texts[index] += event.tokens
        is_done[index] = event.finish_reason is not None
        progress.advance(bar, is_done[index])

    for index, answer in enumerate(asked):
        engine.open(_opening(answer, num_tokens, engine), partial(hear, index))
    while not all(is_done):
        engine.step()
    return [
        Answer(answer.task, tuple(text), answer.temperature, answer.seed)
        for answer, text in zip(asked, texts, strict=True)
    ]


def _opening(answer: Answer, num_tokens: int, engine: BatchingEngine) -> OpenSession:
    return OpenSession(
        prefix=answer.task.prompt,
        num_prompt_tokens=len(answer.task.prompt),
        max_tokens=num_tokens,
        sampling=answer.sampling,
        tokenizer_fingerprint=engine.info.tokenizer_fingerprint,
    )
