"""A target without a model: its next token is a hash, and a guess is right with a stated chance.

For load tests: the verifier's synthetic target and the edge's synthetic proposer both follow the
functions here, so they agree as often as the spec says. Pure. Knows nothing of passes, pages or
sessions, and does not sleep: how long a pass would take is only stated.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from outrider_common.errors import ConfigError

NAME: Final = "synthetic"
"""What every text of a spec begins with."""

EOS: Final = 0
"""The end-of-text id. It is never the target's token, so a text ends where it has to be cut."""

_Whole = TypeVar("_Whole", int, NDArray[np.int64])
"""One whole number, or an array of them, of shape [n]."""

_MASK_32: Final = 0xFFFFFFFF
_MULTIPLIER: Final = 0xD2511F53  # odd; one of the two of Philox
_TEXT, _PROBE, _COIN, _MISS = 1, 2, 3, 4  # so that different ends have different hashes

RUNNER_UP_SHARE: Final = 0.5
"""Where a guess is wrong, the next in rank is right with this chance: with an acceptance of 0.8 the
target's token is among the first four in 0.975 of the positions, about as in a quantised copy."""

_NUM_RECENT: Final = 4
_NUM_PROBES: Final = 3

_UNIT_S: Final[Mapping[str, float]] = {"us": 1e6, "ms": 1e3, "s": 1.0}  # so many make a second


@dataclass(frozen=True, slots=True)
class SyntheticSpec:
    """What a synthetic target is like; both sides of a load test have the same one.

    As text it is `synthetic:vocab=1000,acceptance=0.8,c0=20ms,c1=0.2ms,positions=8192,
    kv_bytes=1024,seed=1,d0=1ms,d1=0.01ms,tokenizer=v1:0f3a...` in one line. Whatever is left out
    has its default.

    Attributes:
        vocab: tokens are 0 to vocab - 1; 0 is the end-of-text id.
        acceptance: the chance that a guess is the target's token, given that the text before it,
            guesses included, is the target's own: per token, as alpha of Leviathan et al.
            (arXiv:2211.17192, section 3.1). A chain of g guesses thus makes a pass commit
            (1 - acceptance^(g + 1)) / (1 - acceptance) tokens on average (their equation 1).
        c0_s: seconds that a pass takes whatever it computes.
        c1_s: seconds that every row adds.
        positions: the most tokens of one text.
        kv_bytes: what the KV cache is said to take for a token.
        seed: another seed, another text.
        d0_s: seconds that a drafter on the target's own device takes for a level of drafts,
            whatever the number of sessions.
        d1_s: seconds that every session adds to that; with 0 for both there is no such drafter.
        tokenizer: the fingerprint of the tokenizer that its tokens are said to be of, so that edges
            with a bundle of that tokenizer may use it; empty: only edges with the same spec may.

    Raises:
        ConfigError: a value is out of range.
    """

    vocab: int = 1000
    acceptance: float = 0.8
    c0_s: float = 0.02
    c1_s: float = 0.0002
    positions: int = 8192
    kv_bytes: int = 1024
    seed: int = 1
    d0_s: float = 0.0
    d1_s: float = 0.0
    tokenizer: str = ""

    def __post_init__(self) -> None:
        _require("vocab", self.vocab, 3, 2**20)  # the end, a right token and a wrong one
        _require("acceptance", self.acceptance, 0, 1)
        _require("c0", self.c0_s, 0, 60, " s")
        _require("c1", self.c1_s, 0, 60, " s")
        _require("positions", self.positions, 2, 2**20)
        _require("kv_bytes", self.kv_bytes, 1, 2**24)
        _require("seed", self.seed, 0, _MASK_32)
        _require("d0", self.d0_s, 0, 60, " s")
        _require("d1", self.d1_s, 0, 60, " s")
        _require_fingerprint(self.tokenizer)

    @classmethod
    def parse(cls, text: str) -> "SyntheticSpec":
        """Read a spec from text.

        Raises:
            ConfigError: it is no spec, or a value in it cannot be used.
        """
        name, _, rest = text.partition(":")
        if name != NAME:
            raise ConfigError(
                f"'{text}' is no synthetic target; write '{NAME}', or for instance "
                f"'{NAME}:vocab=1000,acceptance=0.8,c0=20ms'."
            )
        fields: dict[str, str] = {}
        for part in rest.split(",") if rest else ():
            key, _, value = part.partition("=")
            _refuse_key(key, fields)
            fields[key] = value
        return cls(**{_READERS[key][0]: _read(key, value) for key, value in fields.items()})  # type: ignore[arg-type]

    def __str__(self) -> str:
        """The text from which `parse` makes an equal spec, with every value."""
        fields = (
            f"vocab={self.vocab}",
            f"acceptance={self.acceptance!r}",
            f"c0={_duration(self.c0_s)}",
            f"c1={_duration(self.c1_s)}",
            f"positions={self.positions}",
            f"kv_bytes={self.kv_bytes}",
            f"seed={self.seed}",
            *self._drafter_fields,
            *([f"tokenizer={self.tokenizer}"] if self.tokenizer else ()),
        )
        return f"{NAME}:{','.join(fields)}"

    @property
    def summary(self) -> str:
        """What matters in a comparison, for somebody who reads it."""
        cost = f"{_duration(self.c0_s)} + {_duration(self.c1_s)} a row"
        return f"{NAME} (acceptance {self.acceptance:g}, {cost})"

    @property
    def has_drafter(self) -> bool:
        """Whether its device runs a drafter, too."""
        return self.d0_s > 0 or self.d1_s > 0

    @property
    def without_drafter(self) -> "SyntheticSpec":
        """The same target where its device has nothing else to do."""
        return replace(self, d0_s=0.0, d1_s=0.0)

    @staticmethod
    def is_meant_by(text: str) -> bool:
        """Whether a model's name is that of a synthetic target, though perhaps a wrong one."""
        return text.partition(":")[0] == NAME

    @property
    def tokenizer_fingerprint(self) -> str:
        """Stands for what its tokens mean: nothing, but the same on both sides."""
        return self.tokenizer or str(self.without_drafter)

    def pass_s(self, num_rows: int) -> float:
        """Seconds that a pass of so many rows takes: c0 + c1 * rows."""
        return self.c0_s + self.c1_s * num_rows

    def level_s(self, num_sessions: int) -> float:
        """Seconds that its own drafter takes for a level of drafts: d0 + d1 * sessions."""
        return self.d0_s + self.d1_s * num_sessions

    @property
    def _drafter_fields(self) -> tuple[str, ...]:
        if not self.has_drafter:
            return ()
        return f"d0={_duration(self.d0_s)}", f"d1={_duration(self.d1_s)}"


# --- the target's text ------------------------------------------------------------------------


def seen_positions(spec: SyntheticSpec, length: _Whole) -> list[_Whole]:
    """The positions of a text on which its next token depends.

    The last few, and others that the length picks all over the text: a cache that holds a wrong
    token anywhere gives a wrong text soon. Of a short text some positions occur twice.

    Args:
        spec: whose text it is.
        length: tokens that the text has, at least 1; or of many texts, int64 [n].
    """
    recent = [(length - distance) % length for distance in range(1, _NUM_RECENT + 1)]
    state = _mix(length, spec.seed, _PROBE)
    return recent + [_mix(state, probe) % length for probe in range(_NUM_PROBES)]


def token_after(spec: SyntheticSpec, length: _Whole, seen: Sequence[_Whole]) -> _Whole:
    """The target's token after a text: uniform over all tokens but the end of text.

    Args:
        spec: whose text it is.
        length: tokens that the text has; or of many texts, int64 [n].
        seen: the text's tokens at `seen_positions`, each an int, or int64 [n].
    """
    return _token(spec, _digest(spec, length, seen))


def next_token(spec: SyntheticSpec, text: Sequence[int]) -> int:
    """The target's token after a text of at least one token: its only likely one.

    Takes constant time, whatever the length. Does not depend on acceptance, costs or sizes, only on
    the vocabulary and the seed.
    """
    return _token(spec, _digest_of(spec, text))


def guess(spec: SyntheticSpec, text: Sequence[int], coin_seed: int) -> int:
    """What a drafter of the stated acceptance guesses to follow a text; never the end of text.

    Whether it is right is a coin that depends on the text and on `coin_seed` alone: the same guess
    is made however often it is asked for, and texts that go on differently have independent coins.

    Args:
        spec: the target, and how often it is guessed right.
        text: at least one token.
        coin_seed: another one, other mistakes; in [0, 2**32).
    """
    return ranked_guesses(spec, text, coin_seed, 1)[0]


def ranked_guesses(
    spec: SyntheticSpec, text: Sequence[int], coin_seed: int, num_ranks: int
) -> list[int]:
    """Different guesses of what follows a text, the best first, at most `num_ranks`.

    The first is `guess`; the right one is of rank r with the chance of `rank_chances`. The end of
    text is never guessed.
    """
    digest = _digest_of(spec, text)
    num_ranks = min(num_ranks, spec.vocab - 1)
    right_at = _rank_of_right(spec, _mix(digest, coin_seed, _COIN) / (_MASK_32 + 1), num_ranks)
    step = _mix(digest, coin_seed, _MISS)
    wrong = (1 + (step + i) % (spec.vocab - 2) for i in range(num_ranks))
    steps = [0 if rank == right_at else next(wrong) for rank in range(num_ranks)]
    return [_token(spec, digest + step) for step in steps]  # of vocab - 1 tokens: all different


def rank_chances(spec: SyntheticSpec, num_ranks: int) -> list[float]:
    """How likely the guess of each rank is right: `acceptance`, then `RUNNER_UP_SHARE` of what is
    left, each time.
    """
    chances: list[float] = []
    for _ in range(num_ranks):
        share = RUNNER_UP_SHARE if chances else spec.acceptance
        chances.append(share * (1 - sum(chances)))
    return chances


def _rank_of_right(spec: SyntheticSpec, coin: float, num_ranks: int) -> int | None:
    """The rank of the right guess by a coin in [0, 1); None: none of them is right."""
    for rank, chance in enumerate(rank_chances(spec, num_ranks)):
        if coin < chance:
            return rank
        coin -= chance
    return None


def _token(spec: SyntheticSpec, digest: _Whole) -> _Whole:
    return EOS + 1 + digest % (spec.vocab - 1)


def _digest_of(spec: SyntheticSpec, text: Sequence[int]) -> int:
    length = len(text)
    return _digest(spec, length, [text[i] for i in seen_positions(spec, length)])


def _digest(spec: SyntheticSpec, length: _Whole, seen: Sequence[_Whole]) -> _Whole:
    return _mix(length, spec.seed, _TEXT, *seen)


def _mix(state: _Whole, *words: int | _Whole) -> _Whole:
    """Hash whole numbers to 32 bits: the same for one text and for arrays of many.

    Per word the product's halves are folded together, as in the rounds of wyhash. In int64 the
    products wrap around 2**64, which leaves the masked bits right.
    """
    for word in words:
        product = ((state ^ word) & _MASK_32) * _MULTIPLIER
        state = (product ^ (product >> 32)) & _MASK_32
    return state


# --- a spec as text ---------------------------------------------------------------------------


def _require(key: str, value: float, least: float, most: float, unit: str = "") -> None:
    if not least <= value <= most:  # also where it is NaN
        raise ConfigError(
            f"{key} of the synthetic target is {value}{unit}; set it from {least} to {most}{unit}."
        )


def _require_fingerprint(text: str) -> None:
    if text and not _FINGERPRINT.fullmatch(text):
        raise ConfigError(
            f"tokenizer of the synthetic target is '{text}'; write the tokenizer_fingerprint of a "
            "bundle's manifest.json, 'v1:' and 64 hexadecimal digits."
        )


def _refuse_key(key: str, known: Mapping[str, str]) -> None:
    if key not in _READERS:
        raise ConfigError(
            f"A synthetic target has no '{key}'; the keys are {', '.join(_READERS)}, each with "
            "'=' and a value."
        )
    if key in known:
        raise ConfigError(f"{key} of the synthetic target is given twice; give it once.")


def _read(key: str, value: str) -> float | str:
    _, read, allowed = _READERS[key]
    try:
        return read(value)
    except ValueError:
        raise ConfigError(f"{key} of the synthetic target is '{value}'; write {allowed}.") from None


def _seconds(text: str) -> float:
    number = text.rstrip("msu")
    per_second = _UNIT_S.get(text[len(number) :])
    if per_second is None:
        raise ValueError(text)
    return float(number) / per_second


def _duration(seconds: float) -> str:
    in_ms = f"{seconds * 1e3:.12g}ms"
    return in_ms if _seconds(in_ms) == seconds else f"{seconds!r}s"


_WHOLE: Final = "a whole number"
_TIME: Final = "a number and its unit, us, ms or s, such as 20ms"

_FINGERPRINT: Final = re.compile(r"v1:[0-9a-f]{64}")

_READERS: Final[Mapping[str, tuple[str, Callable[[str], float | str], str]]] = {
    "vocab": ("vocab", int, _WHOLE),
    "acceptance": ("acceptance", float, "a number from 0 to 1"),
    "c0": ("c0_s", _seconds, _TIME),
    "c1": ("c1_s", _seconds, _TIME),
    "positions": ("positions", int, _WHOLE),
    "kv_bytes": ("kv_bytes", int, _WHOLE),
    "seed": ("seed", int, _WHOLE),
    "d0": ("d0_s", _seconds, _TIME),
    "d1": ("d1_s", _seconds, _TIME),
    "tokenizer": ("tokenizer", str, "a fingerprint"),
}
"""For each key its field, how its value is read, and what may be written."""
