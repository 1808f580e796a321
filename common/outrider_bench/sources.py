"""What a run is made of, found before anything starts: models, bundles, prompts, assistants."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from outrider_bench.assistants import NO_ASSISTANT, in_words, kind_for
from outrider_bench.grid import spread_over_tasks
from outrider_bench.lineup import Place, Plan, plan_for
from outrider_bench.targets import is_real
from outrider_bench.transformers_player import TransformersPlayerSettings
from outrider_common.errors import ConfigError
from outrider_common.prompts import Prompt, read_prompts
from outrider_common.recording import Recording
from outrider_common.synthetic import NAME, SyntheticSpec
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore

CHECKOUT_PROMPTS: Final = Path("tests/data/spec_bench_even.jsonl")
"""The prompts of a checkout of the repository: half of Spec-Bench."""

_SYNTHETIC_PROMPT_TOKENS: Final = 32
_DIGEST_DIGITS: Final = 12

_LEAST_MS: Final = 1e-3
"""A drafter takes some time, or there would be none."""


@dataclass(frozen=True, slots=True)
class PairSources:
    """One target and one drafter on this machine.

    Attributes:
        plans: the policies that can be measured with them.
        bundle: the drafter's directory; None where the target is synthetic.
        transformers: the models that Transformers runs in their place; None where it runs none.
        software: what assists Transformers, in words; None where nobody asked for that.
    """

    plans: tuple[Plan, ...]
    bundle: Path | None = None
    transformers: TransformersPlayerSettings | None = None
    software: str | None = None


def find_pair(
    store: ModelStore,
    target: str,
    pair: str,
    plans: tuple[Plan, ...],
    assistants: Mapping[str, Path],
) -> PairSources:
    """What a pair needs.

    Args:
        store: where models are.
        target: the model, or the text of a synthetic target.
        pair: the bundle, or the same text.
        plans: the policies that are asked for.
        assistants: directories of torch models for the bundles that have another one.

    Raises:
        OutriderError: something is not there.
    """
    others = [plan for plan in plans if plan.place is Place.TRANSFORMERS]
    if others and not is_real(target):
        raise ConfigError(
            f"The policy '{others[0].name}' needs a real target, and '{target}' is none; "
            "leave it out."
        )
    if SyntheticSpec.is_meant_by(target):
        return PairSources(tuple(plan_for(plan.name, target) for plan in plans))
    if Recording.is_meant_by(target):
        Recording.named(target)  # so that one which cannot be played is refused before a run
    directory = store.resolve_model(target) if is_real(target) else None
    bundle = Bundle.load(store.resolve_bundle(pair))
    if directory is None or not others:
        return PairSources(plans, bundle.path)
    return _beside_transformers(plans, directory, bundle, assistants.get(pair))


def _beside_transformers(
    plans: tuple[Plan, ...], target: Path, bundle: Bundle, given: Path | None
) -> PairSources:
    """What Transformers can be assisted by, and the policies that are left."""
    kind = kind_for(bundle.manifest)
    plain = TransformersPlayerSettings(str(target), None, kind)
    needy = [plan for plan in plans if plan.place is Place.TRANSFORMERS and plan.drafts]
    if not needy:
        return PairSources(plans, bundle.path, plain)
    weights = given or (target if _is_copy(bundle, target) else None)
    if weights is None:
        left = tuple(plan for plan in plans if plan not in needy)
        return PairSources(left, bundle.path, plain, NO_ASSISTANT)
    settings = TransformersPlayerSettings(str(target), str(weights), kind)
    return PairSources(plans, bundle.path, settings, in_words(kind, weights.name))


def _is_copy(bundle: Bundle, target: Path) -> bool:
    """Whether a bundle has all layers of its target: then it has the target's weights."""
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("num_hidden_layers") == bundle.manifest.kv.num_layers)


def checkout_prompts() -> Path | None:
    """Those of the checkout that this runs in; None where it is none."""
    return CHECKOUT_PROMPTS if CHECKOUT_PROMPTS.is_file() else None


def find_prompts(path: Path | None, num_wanted: int) -> list[Prompt]:
    """Prompts, as many of each task as of any other.

    Raises:
        InvalidInputError: no file is named, or it cannot be read, or holds fewer.
    """
    if path is None:
        raise ConfigError(
            f"There is no {CHECKOUT_PROMPTS} here; name a file of prompts with --prompts."
        )
    prompts = read_prompts(path)
    chosen = spread_over_tasks([prompt.task for prompt in prompts], num_wanted)
    return [prompts[index] for index in chosen]


def synthetic_prompts(target: str, num_wanted: int) -> list[Prompt]:
    """Token ids that a synthetic target knows; the same in every run."""
    spec, dice = SyntheticSpec.parse(target), random.Random(NAME)
    return [
        Prompt(
            None,
            tuple(dice.randrange(1, spec.vocab) for _ in range(_SYNTHETIC_PROMPT_TOKENS)),
            NAME,
        )
        for _ in range(num_wanted)
    ]


def without_drafter(target: str) -> str:
    """The target that verifies what edges draft: nothing else runs on its device."""
    if not SyntheticSpec.is_meant_by(target):
        return target
    return str(SyntheticSpec.parse(target).without_drafter)


def with_drafter(target: str, draft_ms: float) -> str:
    """The synthetic target whose device drafts; where it is not said how fast, as fast as an edge.

    Args:
        target: the text of its spec.
        draft_ms: what a level of drafts takes an edge.
    """
    spec = SyntheticSpec.parse(target)
    return str(spec if spec.has_drafter else replace(spec, d0_s=max(draft_ms, _LEAST_MS) / 1e3))


def file_in_words(path: Path) -> str:
    """A file's name and the first digits of its SHA-256.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_DIGITS]
    except OSError as error:
        raise ConfigError(
            f"The prompts '{path}' cannot be read ({error}); give a file of JSON lines."
        ) from error
    return f"{path.name} {digest}"
