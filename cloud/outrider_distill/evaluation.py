"""Judges a drafter bundle: what its target would accept of it, and how much faster that is.

The target writes answers, greedily and sampled; the drafter, as the edge runs it, guesses every
token of them. The composition root of the command.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from outrider_cloud.target_loading import load_target
from outrider_cloud.torch_target import TorchTarget, kv_shape
from outrider_common.errors import MismatchError
from outrider_common.prompts import read_prompts
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.speed import SpeedUp, Times, speed_ups
from outrider_distill.answers import (
    NUM_TEXTS,
    EvaluationProgress,
    EvaluationRequest,
    Questions,
    first_of_each_task,
)
from outrider_distill.chat_format import chat_format, load_tokenizer
from outrider_distill.speculation import (
    MOST_GUESSES,
    Ranks,
    acceptance_per_position,
    best_tree,
    chain_tokens_per_pass,
    share_in_first,
    tree_tokens_per_pass,
)
from outrider_distill.target_config import target_config
from outrider_distill.timing import measure_times
from outrider_edge.onnx_model import OnnxModel
from outrider_models.bundle import Bundle, tokenizer_fingerprint
from outrider_models.store import ModelStore

REPORT_VERSION: Final = 1
FIRST: Final = (1, 2, 4, 8)
CHAINS: Final = (1, 2, 4, 8)
TREES: Final = (4, 8, 16)
RESCUING_GUESSES: Final = 4
ALL_TASKS: Final = "overall"

LARGEST_CACHE_MIB: Final = 4096


@dataclass(frozen=True, slots=True)
class Worth:
    """What a drafter is worth on some answers.

    Attributes:
        num_tokens: that were guessed.
        acceptance: how often the first guess is the target's token.
        in_first: the same for the first 1, 2, 4, 8 guesses, by their number.
        per_position: of a drafted chain.
        chain: tokens that a pass commits, by the length of the chain.
        tree: tokens that a pass commits, by the nodes of the tree.
    """

    num_tokens: int
    acceptance: float
    in_first: dict[str, float]
    per_position: list[float]
    chain: dict[str, float]
    tree: dict[str, float]

    @classmethod
    def of(cls, texts: Sequence[Ranks]) -> "Worth":
        """Judge by the ranks of the target's tokens, answer by answer."""
        in_first = [share_in_first(texts, count) for count in range(MOST_GUESSES + 1)]
        shares = np.diff(in_first).tolist()
        trees = {nodes: best_tree(shares, nodes) for nodes in TREES}
        return cls(
            num_tokens=sum(map(len, texts)),
            acceptance=in_first[1],
            in_first={str(count): in_first[count] for count in FIRST},
            per_position=acceptance_per_position(texts),
            chain={str(length): chain_tokens_per_pass(texts, length) for length in CHAINS},
            tree={str(nodes): tree_tokens_per_pass(texts, tree) for nodes, tree in trees.items()},
        )

    @property
    def rescued(self) -> float:
        """How often the target's token is a later guess where it is not the first."""
        missed = 1 - self.acceptance
        return (self.in_first[str(RESCUING_GUESSES)] - self.acceptance) / missed if missed else 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result.

    Attributes:
        request: what was evaluated.
        times: measured on this machine.
        worths: by temperature and task; `ALL_TASKS` is all of them together.
        speeds: over the round trip, by temperature, from the overall acceptance.
    """

    request: EvaluationRequest
    times: Times
    worths: dict[float, dict[str, Worth]]
    speeds: dict[float, list[SpeedUp]]

    def as_json(self) -> dict[str, Any]:
        """Plain values, as they are written to a file."""
        request = asdict(self.request) | {"prompts": str(self.request.prompts)}
        return {
            "version": REPORT_VERSION,
            "request": request | {"temperatures": list(self.request.temperatures)},
            "times": asdict(self.times) | {"plain_s": self.times.plain_s},
            "results": [
                {
                    "temperature": temperature,
                    "tasks": {task: asdict(worth) for task, worth in tasks.items()},
                    "speed_ups": [asdict(speed) for speed in self.speeds[temperature]],
                }
                for temperature, tasks in self.worths.items()
            ],
        }


def evaluate(
    request: EvaluationRequest, store: ModelStore, progress: EvaluationProgress
) -> Evaluation:
    """Judge a drafter.

    Raises:
        InvalidInputError: the prompts cannot be used.
        MismatchError: drafter and target do not have the same tokens.
        UnknownModelError: there is no such target or bundle.
        ModelFileError: files are damaged.
    """
    source = store.resolve_model(request.target)
    bundle = Bundle.load(store.resolve_bundle(request.bundle))
    target_config(source)
    tokenizer = load_tokenizer(source)
    _refuse_strangers(bundle, tokenizer.get_vocab(), request)
    prompts = first_of_each_task(read_prompts(request.prompts), request.most_per_task)
    drafter = OnnxModel(bundle, num_threads=request.num_threads)
    questions = Questions(prompts, chat_format(tokenizer), tokenizer, request, drafter)
    target = _load(request, source, store, questions.longest)
    times = measure_times(drafter, target)
    progress.begin_answers(len(prompts) * len(request.temperatures))
    worths = {
        temperature: _worths(questions.ranks(target, temperature, progress))
        for temperature in request.temperatures
    }
    speeds = {
        temperature: speed_ups(times, tasks[ALL_TASKS].acceptance, tasks[ALL_TASKS].rescued)
        for temperature, tasks in worths.items()
    }
    return Evaluation(request, times, worths, speeds)


def _worths(by_task: dict[str, list[Ranks]]) -> dict[str, Worth]:
    everything = [ranks for texts in by_task.values() for ranks in texts]
    return {
        ALL_TASKS: Worth.of(everything),
        **{task: Worth.of(texts) for task, texts in by_task.items()},
    }


def _refuse_strangers(
    bundle: Bundle, vocabulary: dict[str, int], request: EvaluationRequest
) -> None:
    if bundle.manifest.tokenizer_fingerprint != tokenizer_fingerprint(vocabulary):
        raise MismatchError(
            f"The drafter '{request.bundle}' and the target '{request.target}' have different "
            "tokenizers; evaluate it with the target that it was made for."
        )


def _load(request: EvaluationRequest, source: Path, store: ModelStore, longest: int) -> TorchTarget:
    kv = kv_shape(target_config(source))
    per_token = 2 * 4 * kv.num_layers * kv.num_kv_heads * kv.head_size
    needed_mib = 1 + (NUM_TEXTS * (longest + 64) * per_token >> 20)
    settings = VerifierSettings(
        num_threads=request.num_threads, kv_cache_mib=min(needed_mib, LARGEST_CACHE_MIB)
    )
    return load_target(settings, source, store.root / "kernels")
