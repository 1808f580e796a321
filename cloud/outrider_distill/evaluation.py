"""Judges drafter bundles: what their target would accept of them, and how much faster that is.

The target writes answers, greedily and sampled; each drafter, as the edge runs it, guesses every
token of them. The composition root of the command.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from outrider_cloud.target_loading import load_target
from outrider_cloud.torch_target import TorchTarget, kv_shape
from outrider_common.errors import MismatchError
from outrider_common.prompts import read_prompts
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.speed import SpeedUp, Times, speed_ups
from outrider_distill.answers import (
    NUM_TEXTS,
    Answer,
    EvaluationProgress,
    EvaluationRequest,
    Questions,
    first_of_each_task,
)
from outrider_distill.chat_format import chat_format, load_tokenizer
from outrider_distill.judging import Drafter
from outrider_distill.speculation import BlockRanks, Ranks
from outrider_distill.target_config import target_config
from outrider_distill.timing import measure_times
from outrider_distill.worth import Worth
from outrider_models.bundle import Bundle, tokenizer_fingerprint
from outrider_models.store import ModelStore

REPORT_VERSION: Final = 2
ALL_TASKS: Final = "overall"

LARGEST_CACHE_MIB: Final = 4096


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found of one drafter.

    Attributes:
        bundle: what it was called.
        times: measured on this machine; those of the target are the same for all drafters.
        worths: by temperature and task; `ALL_TASKS` is all of them together.
        speeds: over the round trip, by temperature, from what is true of all tasks together.
    """

    bundle: str
    times: Times
    worths: dict[float, dict[str, Worth]]
    speeds: dict[float, list[SpeedUp]]

    @classmethod
    def of(cls, bundle: str, times: Times, worths: dict[float, dict[str, Worth]]) -> "Judged":
        """Add what the formulas say."""
        overall = {temperature: tasks[ALL_TASKS] for temperature, tasks in worths.items()}
        speeds = {
            temperature: speed_ups(times, worth.runs, worth.rescued)
            for temperature, worth in overall.items()
        }
        return cls(bundle, times, worths, speeds)

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they are written to a file."""
        return {
            "bundle": self.bundle,
            "times": asdict(self.times) | {"plain_s": self.times.plain_s},
            "results": [
                {
                    "temperature": temperature,
                    "tasks": {task: asdict(worth) for task, worth in tasks.items()},
                    "speed_ups": [
                        asdict(speed) | {"tokens_per_s": self.tokens_per_s(speed)}
                        for speed in self.speeds[temperature]
                    ],
                }
                for temperature, tasks in self.worths.items()
            ],
        }

    def tokens_per_s(self, speed: SpeedUp) -> float:
        """What is expected of the better of the policies without branches."""
        return speed.unbranched / self.times.plain_s


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result.

    Attributes:
        request: what was evaluated.
        judged: of each drafter, in the order of the request.
    """

    request: EvaluationRequest
    judged: tuple[Judged, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they are written to a file."""
        request = asdict(self.request) | {
            "bundles": list(self.request.bundles),
            "prompts": str(self.request.prompts),
            "temperatures": list(self.request.temperatures),
        }
        drafters = [judged.as_json() for judged in self.judged]
        return {"version": REPORT_VERSION, "request": request, "drafters": drafters}


def evaluate(
    request: EvaluationRequest, store: ModelStore, progress: EvaluationProgress
) -> Evaluation:
    """Judge drafters by the same answers.

    Raises:
        InvalidInputError: the prompts cannot be used.
        MismatchError: a drafter and the target do not have the same tokens.
        UnknownModelError: there is no such target or bundle.
        ModelFileError: files are damaged.
    """
    source = store.resolve_model(request.target)
    bundles = {name: Bundle.load(store.resolve_bundle(name)) for name in request.bundles}
    config = target_config(source)
    tokenizer = load_tokenizer(source)
    for name, bundle in bundles.items():
        _refuse_strangers(name, bundle, tokenizer.get_vocab(), request.target)
    prompts = first_of_each_task(read_prompts(request.prompts), request.most_per_task)
    questions = Questions(prompts, chat_format(tokenizer), tokenizer, config.vocab_size, request)
    drafters = [
        Drafter(name, bundle, request.num_threads, questions.longest)
        for name, bundle in bundles.items()
    ]
    target = _load(request, source, store, questions.longest)
    times = measure_times(drafters, target)
    progress.begin_answers(len(questions) * len(request.temperatures))
    notes = {
        temperature: _judge(questions, target, drafters, temperature, progress)
        for temperature in request.temperatures
    }
    judged = (
        Judged.of(drafter.name, its_times, {t: notes[t][i].worths() for t in notes})
        for i, (drafter, its_times) in enumerate(zip(drafters, times, strict=True))
    )
    return Evaluation(request, tuple(judged))


class _Notes:
    """The ranks of one drafter, by task."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter = drafter
        self._ranks: dict[str, list[Ranks]] = {}
        self._blocks: dict[str, list[BlockRanks]] = {}

    def take(self, answer: Answer) -> None:
        """Let the drafter guess an answer."""
        self._ranks.setdefault(answer.task, []).append(self._drafter.next_ranks(answer))
        if self._drafter.masks:
            self._blocks.setdefault(answer.task, []).append(self._drafter.block_ranks(answer))

    def worths(self) -> dict[str, Worth]:
        """What it is worth, of all tasks together and of each."""
        return {
            ALL_TASKS: Worth.of(_all(self._ranks), _all(self._blocks)),
            **{t: Worth.of(ranks, self._blocks.get(t, ())) for t, ranks in self._ranks.items()},
        }


def _all(by_task: dict[str, list[Ranks]]) -> list[Ranks]:
    return [ranks for texts in by_task.values() for ranks in texts]


def _judge(
    questions: Questions,
    target: TorchTarget,
    drafters: Sequence[Drafter],
    temperature: float,
    progress: EvaluationProgress,
) -> list[_Notes]:
    """Let all drafters guess the same answers."""
    notes = [_Notes(drafter) for drafter in drafters]
    for answers in questions.answers(target, temperature):
        for answer in answers:
            for own in notes:
                own.take(answer)
            progress.answered(1)
    return notes


def _refuse_strangers(name: str, bundle: Bundle, vocabulary: dict[str, int], target: str) -> None:
    if bundle.manifest.tokenizer_fingerprint != tokenizer_fingerprint(vocabulary):
        raise MismatchError(
            f"The drafter '{name}' and the target '{target}' have different tokenizers; evaluate "
            "it with the target that it was made for."
        )


def _load(request: EvaluationRequest, source: Path, store: ModelStore, longest: int) -> TorchTarget:
    kv = kv_shape(target_config(source))
    per_token = 2 * 4 * kv.num_layers * kv.num_kv_heads * kv.head_size
    needed_mib = 1 + (NUM_TEXTS * (longest + 64) * per_token >> 20)
    settings = VerifierSettings(
        num_threads=request.num_threads, kv_cache_mib=min(needed_mib, LARGEST_CACHE_MIB)
    )
    return load_target(settings, source, store.root / "kernels")
