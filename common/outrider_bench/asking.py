"""From what a command line says to a request: lists of quantities, and what is left out.

Pure. Which values make sense together is for `grid` and `sources` to say.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, get_args

from outrider_bench import quantities
from outrider_bench.lineup import PLANS, Place
from outrider_bench.results import Request
from outrider_bench.targets import is_real
from outrider_common.errors import ConfigError
from outrider_common.settings.edge import ProposerName
from outrider_common.synthetic import SyntheticSpec

_Value = TypeVar("_Value")

SYNTHETIC_DRAFT_TIME: Final = "4ms"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a command line may say; lists are written with commas. None: left out."""

    policies: str | None = None
    rtt: str | None = None
    bandwidth: str | None = None
    sessions: str | None = None
    temperature: str | None = None
    num_prompts: int | None = None
    tokens: int | None = None
    rounds: int | None = None
    warm_up: int | None = None

    def over(self, defaults: "Asked") -> "Asked":
        """The same, and what it leaves out from the defaults."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(defaults, **said)


FULL: Final = Asked(
    rtt="0ms,10ms,20ms,50ms,100ms,200ms,400ms",
    bandwidth=quantities.UNLIMITED,
    sessions="1",
    temperature="0,1",
    num_prompts=12,
    tokens=128,
    rounds=3,
    warm_up=4,
)

QUICK: Final = Asked(
    policies="cloud,stop-and-wait,chain,auto",
    rtt="0ms,50ms",
    bandwidth=quantities.UNLIMITED,
    sessions="1",
    temperature="0",
    num_prompts=3,
    tokens=48,
    rounds=1,
    warm_up=1,
)
"""Says whether all of it works, in less than three minutes."""


def request_for(
    asked: Asked,
    defaults: Asked,
    *,
    target: str,
    bundles: tuple[str, ...],
    seed: int,
    proposers: str,
    draft_time: str,
    prompt_file: str | None,
) -> Request:
    """The request that a command line describes.

    Args:
        asked: what it says.
        defaults: for what it leaves out.
        target: the model, or a synthetic target.
        bundles: drafters; a synthetic target has none.
        seed: of the sampling.
        proposers: what drafts, as a list.
        draft_time: of a level of drafts, where the target is synthetic.
        prompt_file: its name and digest.

    Raises:
        ConfigError: a value is none of its kind.
    """
    is_synthetic = SyntheticSpec.is_meant_by(target)
    spec = str(SyntheticSpec.parse(target)) if is_synthetic else target
    whole = asked.over(defaults)
    every_policy = ",".join(_all_policies(target))
    return Request(
        target=spec,
        pairs=(spec,) if is_synthetic else bundles,
        policies=_words(every_policy if whole.policies is None else whole.policies),
        rtt_ms=_each("--rtt", whole.rtt, lambda *named: quantities.seconds(*named) * 1e3),
        bandwidth_mbps=_each("--bandwidth", whole.bandwidth, _mbps),
        sessions=_each("--sessions", whole.sessions, _count),
        temperatures=_each("--temperature", whole.temperature, quantities.number),
        prompt_file=None if is_synthetic else prompt_file,
        num_prompts=whole.num_prompts or 1,
        tokens=whole.tokens or 1,
        rounds=whole.rounds or 1,
        warm_up=whole.warm_up or 1,
        seed=seed,
        proposers=("synthetic",) if is_synthetic else _proposers(proposers),
        draft_ms=quantities.seconds("--draft-time", draft_time) * 1e3 if is_synthetic else None,
    )


def assistants_from(said: tuple[str, ...]) -> Mapping[str, Path]:
    """Directories of torch models, by bundle.

    Raises:
        ConfigError: one is not written as BUNDLE=DIR, or is no directory.
    """
    found = {}
    for text in said:
        bundle, _, directory = text.partition("=")
        path = Path(directory).expanduser()
        if not directory or not (path / "config.json").is_file():
            raise ConfigError(
                f"--assistant is '{text}'; write BUNDLE=DIR, where DIR is a model directory with "
                "config.json and safetensors weights."
            )
        found[bundle] = path
    return found


def _all_policies(target: str) -> tuple[str, ...]:
    left_out = set() if is_real(target) else {Place.TRANSFORMERS}
    return tuple(name for name, plan in PLANS.items() if plan.place not in left_out)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _each(name: str, text: str | None, read: Callable[[str, str], _Value]) -> tuple[_Value, ...]:
    return tuple(read(name, word) for word in _words(text or ""))


def _mbps(name: str, text: str) -> float | None:
    bits = quantities.bits_per_s(name, text)
    return None if bits == float("inf") else bits / 1e6


def _count(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name} is '{text}'; write whole numbers of at least 1, such as 1,4.")
    return int(text)


def _proposers(text: str) -> tuple[str, ...]:
    for name in _words(text):
        if name not in get_args(ProposerName):
            raise ConfigError(
                f"There is no proposer '{name}'; take some of {', '.join(get_args(ProposerName))}."
            )
    return _words(text)
