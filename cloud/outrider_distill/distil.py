"""Makes a drafter of a target: text, training, export. Each step goes on where it was stopped.

The composition root of the package: the one place that knows all of its parts.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, Protocol

import torch
from transformers import PreTrainedModel

from outrider_cloud.loading import load_causal_lm
from outrider_cloud.target_loading import load_target
from outrider_cloud.torch_target import kv_shape, usable_device
from outrider_common.errors import InvalidInputError
from outrider_common.prompts import read_prompts
from outrider_common.settings.verifier import DeviceName, VerifierSettings
from outrider_distill.assembling import Made, assemble, write_layers
from outrider_distill.assignments import Assignments
from outrider_distill.chat_format import chat_format, load_tokenizer
from outrider_distill.corpus import Corpus, WritingProgress
from outrider_distill.cost import Cost
from outrider_distill.masks import spare_tokens
from outrider_distill.number_format import faster_format
from outrider_distill.request import DistillRequest, claim_directory, tokens_written_for
from outrider_distill.samples import Sample, write_whole
from outrider_distill.student import build_student, read_trained
from outrider_distill.target_config import target_config
from outrider_distill.training import Trainer, TrainingPlan, TrainingProgress
from outrider_distill.writing import Writer, WritingLimits
from outrider_models.progress import Progress
from outrider_models.store import ModelStore

TRAINED_FILE: Final = "trained.safetensors"
CURVE_FILE: Final = "curve.json"
CHECKPOINT_FILE: Final = "checkpoint.pt"
TEXT_FOLDER: Final = "text"
BUNDLE_FOLDER: Final = "bundle"

HELD_OUT_EVERY: Final = 32
MOST_HELD_OUT: Final = 48
LARGEST_CACHE_MIB: Final = 2048


class DistillProgress(Progress, WritingProgress, TrainingProgress, Protocol):
    """Watches a distillation."""

    def begin_writing(self, num_tokens: int) -> None:
        """The target starts to write about so many tokens."""
        ...

    def took(self, writing: Cost, training: Cost) -> None:
        """All text is written and learned from; what that took."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What the work is done with; decides nothing but the time it takes, up to rounding.

    Attributes:
        device: `cpu`, `cuda`, or `auto`.
        num_threads: of tensor operations on the CPU.
    """

    device: DeviceName = "auto"
    num_threads: int = 1


class Distillation:
    """One distillation in its directory.

    Args:
        request: what to make.
        directory: where; made, or gone on with.
        store: where the target is.
        machine: what to do it with.
        progress: is told what goes on.

    Raises:
        InvalidInputError: a value of the request cannot be used, or the directory belongs to
            another one.
        UnsupportedError: the target is of a kind of which no drafter can be made.
        ModelFileError: the target's files are damaged.
    """

    def __init__(
        self,
        request: DistillRequest,
        directory: Path,
        store: ModelStore,
        machine: Machine,
        progress: DistillProgress,
    ) -> None:
        self._request, self._directory, self._store = request, directory, store
        self._machine, self._progress = machine, progress
        self._source = store.resolve_model(request.target)
        self._config = target_config(self._source)
        self._tokenizer = load_tokenizer(self._source)
        self._chat = chat_format(self._tokenizer)
        self._masks = spare_tokens(
            self._tokenizer, self._config.vocab_size, self._chat, request.block - 1
        )
        self._questions = [self._read_questions(path) for path in request.prompts]
        self._openings = self._read_questions(request.openings) if request.openings else []
        self._others = [self._text_of(other) for other in request.text_of]
        claim_directory(directory, request.record(self._source))
        self._corpus = Corpus(directory / TEXT_FOLDER)

    def write_text(self) -> None:
        """Let the target write what there is not yet of the text.

        Raises:
            UnavailableError: the disk is full.
        """
        missing = self._corpus.num_missing_rows(self._request.text_tokens)
        if not missing:
            return
        self._progress.begin_writing(missing)
        writer = self._writer()
        request = self._request
        assignments = Assignments(
            self._chat, self._questions, request.temperatures, request.seed, self._openings
        )
        self._corpus.extend(writer, assignments, request.text_tokens, self._progress)

    def train(self) -> PreTrainedModel:
        """The trained drafter.

        Raises:
            UnavailableError: the disk is full.
            ModelFileError: text or checkpoint are damaged.
        """
        trainer = self._trainer()
        trainer.run(self._progress)
        curve = json.dumps(trainer.curve, indent=1)
        write_whole(self._directory / CURVE_FILE, lambda file: file.write(curve.encode()))
        self._progress.took(self._corpus.cost(), trainer.cost)
        return trainer.student

    def trained_so_far(self) -> PreTrainedModel:
        """The drafter of the last checkpoint; a training that goes on meanwhile is not disturbed.

        Raises:
            InvalidInputError: there is no checkpoint yet.
            ModelFileError: text or checkpoint are damaged.
        """
        if not (self._directory / CHECKPOINT_FILE).is_file():
            raise InvalidInputError(
                f"'{self._directory}' has no checkpoint yet; wait until training has made one."
            )
        return self._trainer().student

    def _trainer(self) -> Trainer:
        own = list(self._corpus.samples(self._request.text_tokens))
        parts = [split(text) for text in (own, *self._others)]
        held_out, rest = (list(chain.from_iterable(some)) for some in zip(*parts, strict=True))
        checkpoint = self._directory / CHECKPOINT_FILE
        return Trainer(self._student(), rest, held_out, self._plan(), checkpoint)

    def export(self, student: PreTrainedModel, quantisation: str, name: str | None) -> Path:
        """Write the trained layers, and a bundle of them; the bundle's directory.

        Raises:
            ParityError: the bundle would not compute what the drafter computes.
        """
        trained = self._directory / TRAINED_FILE
        request = self._request
        made = Made(request.layers, self._masks, request.target)
        write_layers(student.cpu(), trained, made, self._tokenizer)
        return assemble(
            trained,
            self._store,
            self._progress,
            target=request.target,
            quantisation=quantisation,
            name=name,
            out=self._directory / BUNDLE_FOLDER,
            force=True,
        )

    def _read_questions(self, path: Path) -> list[tuple[int, ...]]:
        """The questions of a file that are short enough to leave room for an answer."""
        most = self._request.max_tokens // 2
        vocab_size = self._config.vocab_size
        questions = [prompt.encode(self._tokenizer, vocab_size) for prompt in read_prompts(path)]
        short = [question for question in questions if len(question) <= most]
        if not short:
            raise InvalidInputError(
                f"All prompts in '{path}' are longer than {most} tokens, half of a text; "
                "allow longer texts, or give shorter prompts."
            )
        return short

    def _text_of(self, directory: Path) -> list[Sample]:
        """All text of another distillation."""
        num_rows = tokens_written_for(directory, self._source)
        corpus = Corpus(directory / TEXT_FOLDER)
        if missing := corpus.num_missing_rows(num_rows):
            raise InvalidInputError(
                f"'{directory}' still lacks {missing} of its {num_rows} tokens of text; let that "
                "distillation write them first."
            )
        return list(corpus.samples(num_rows))

    def _writer(self) -> Writer:
        limits = WritingLimits(max_tokens=self._request.max_tokens)
        settings = VerifierSettings(
            device=self._machine.device,
            num_threads=self._machine.num_threads,
            kv_cache_mib=self._cache_mib(limits),
        )
        target = load_target(settings, self._source, self._store.root / "kernels")
        return Writer(target, self._chat, limits)

    def _cache_mib(self, limits: WritingLimits) -> int:
        """What all texts need, in fp32 and with pages that are not quite full."""
        kv = kv_shape(self._config)
        per_token = 2 * 4 * kv.num_layers * kv.num_kv_heads * kv.head_size
        num_bytes = limits.num_texts * (limits.max_tokens + 64) * per_token
        return min(1 + (num_bytes >> 20), LARGEST_CACHE_MIB)

    def _student(self) -> PreTrainedModel:
        target = load_causal_lm(self._source, lambda config: None)
        student = build_student(target, self._request.layers, self._masks)
        if self._request.start_from:
            read_trained(student, self._request.start_from)
        device = usable_device(self._machine.device)
        moved: PreTrainedModel = student.to(device)  # type: ignore[arg-type]
        return moved

    def _plan(self) -> TrainingPlan:
        torch.set_num_threads(self._machine.num_threads)
        request = self._request
        return TrainingPlan(
            loss=request.loss,
            learning_rate=request.learning_rate,
            batch_tokens=request.batch_tokens,
            epochs=request.epochs,
            seed=request.seed,
            dtype=faster_format(self._directory, usable_device(self._machine.device)),
        )


def split(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Some samples to estimate the acceptance on, and all others to learn from."""
    held_out = list(samples[::HELD_OUT_EVERY][:MOST_HELD_OUT])
    chosen = {id(sample) for sample in held_out}
    return held_out, [sample for sample in samples if id(sample) not in chosen]
