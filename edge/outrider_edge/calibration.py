"""What a guess is worth: proposers' own probabilities, corrected by what became of their guesses.

A proposer may be too sure of itself, or too modest; what the target said of its earlier guesses
tells. Pure. Knows nothing of trees, of the network, or of how the proposers work.
"""

import functools
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

KNOTS: Final = (0.0, 0.05, 0.15, 0.3, 0.5, 0.7, 0.85, 0.95, 0.99, 1.0)
"""Own probabilities at which the chance is estimated; in between it is interpolated."""

_SUREST: Final = 0.995
"""No prior is surer than this, nor less sure than one minus this."""

_MEMORY_GUESSES: Final = 1024.0
"""Decided guesses of a kind after which an observation counts for 1/e."""

_PRIOR_GUESSES: Final = 4.0
"""What is known of the more general kind counts as much as so many guesses at each knot."""

_SHARE_LEFT_IN_DOUBT: Final = 0.5

_NEWS_SHARE: Final = 1 / 16
_MOST_NEWS: Final = 64
"""Curves are drawn anew when so many observations, or this share of all, are new: that takes longer
than all else here."""

_LARGEST_UNIT: Final = 1e9

_DEPTH_ENDS: Final = (1, 2, 4, 8)
"""The last depth of each class but the last."""

_MAX_RANK: Final = 3
"""Guesses of this rank and beyond are one class."""

_VERSION: Final = 2
"""1: the language model's own probabilities were those of its softmax."""


@dataclass(frozen=True, slots=True)
class GuessKind:
    """What kind of guess: those of one kind are calibrated together.

    Attributes:
        proposer: the name of what drafted it.
        rank: its place among the guesses for the same position after the same path; 0 the first.
        depth: how many guesses stand between the last token that was committed when it was made
            and itself, itself included; at least 1.
        regime: how guesses are made and judged: the same own probability means one thing where the
            target takes its likeliest token, and another where it samples.
    """

    proposer: str
    rank: int
    depth: int
    regime: str = ""

    @property
    def family(self) -> str:
        """What the most general table is for."""
        return f"{self.proposer} {self.regime}".rstrip()

    def tables(self) -> tuple["_Key", "_Key", "_Key"]:
        """Where it is counted, from the general to the special."""
        return _tables(self)


_Key = tuple[str, int, int]
"""Family, rank and class of depth; -1 for all."""


@functools.lru_cache(maxsize=1024)
def _tables(kind: GuessKind) -> tuple[_Key, _Key, _Key]:
    rank = min(kind.rank, _MAX_RANK)
    depth_class = sum(kind.depth > end for end in _DEPTH_ENDS)
    family = kind.family
    return (family, -1, -1), (family, rank, -1), (family, rank, depth_class)


class Calibration:
    """Learns online which share of the guesses with a given own probability is committed.

    The chance that a guess is committed, given that its parent is, is a function of the own
    probability, one for each kind: an estimate at each of ten knots, straight lines between them.
    An observation counts at the two knots around it, by its distance to each, and fades, so that
    the estimate follows the text. The estimate at a knot is the mean of a Beta posterior whose
    prior mean is the estimate of the next more general kind,

        proposer and rank and depth  <-  proposer and rank  <-  proposer  <-  the own probability,

    so that a kind with few observations is judged like its relatives, and a proposer of which
    nothing is known is believed (shrinkage; Gelman et al., Bayesian Data Analysis, chapter 5). At
    last, pooling adjacent violators makes it monotone (Ayer et al. 1955; for calibration: Zadrozny
    and Elkan, KDD 2002). Isotonic regression alone needs about a thousand observations
    (Niculescu-Mizil and Caruana, ICML 2005), and a parametric curve (Platt 1999) fits retrieval,
    whose probabilities are a rule of thumb, and language models not equally well.

    Feed it fates only. A guess whose parent was refuted was never judged: it must not be observed.

    Args:
        memory_guesses: observations of a kind after which one counts for 1/e, at least 1.
    """

    def __init__(self, memory_guesses: float = _MEMORY_GUESSES) -> None:
        if not memory_guesses >= 1:
            raise ValueError(f"memory_guesses is {memory_guesses}; set it to at least 1.")
        self._share_kept = 1 - 1 / memory_guesses
        self._tables: dict[_Key, _Table] = {}
        self._curves: dict[_Key, list[float]] = {}  # of the most special kinds
        self._num_observed = 0
        self._num_news = 0  # observations that the curves do not know

    def chance(self, kind: GuessKind, probability: float) -> float:
        """The chance that a guess is committed, given that its parent is.

        Args:
            kind: what kind of guess.
            probability: the proposer's own, in [0, 1].

        Returns:
            Strictly between 0 and 1, and no smaller the larger `probability`.
        """
        keys = kind.tables()
        curve = self._curves.get(keys[-1])
        if curve is None:
            curve = self._curves[keys[-1]] = self._curve(keys)
        left, share = _place(probability)
        # Written so that rounding keeps it monotone: the order of draws hangs on that.
        below, above = curve[left], curve[left + 1]
        return min(below + share * (above - below), above)

    def observe(self, kind: GuessKind, probability: float, is_committed: bool) -> None:
        """Learn the fate of a guess whose parent was committed."""
        place = _place(probability)
        for key in kind.tables():
            table = self._tables.get(key)
            if table is None:
                table = self._tables[key] = _Table.empty()
            table.add(place, is_committed, self._share_kept)
        self._num_observed += 1
        self._num_news += 1
        if self._num_news >= min(_MOST_NEWS, _NEWS_SHARE * self._num_observed):
            self._num_news = 0
            self._curves.clear()

    def doubt(self, regime: str) -> None:
        """Half of what is known of a regime is forgotten: it is old, and may no longer hold."""
        for key, table in self._tables.items():
            if key[0].endswith(regime):
                table.fade(_SHARE_LEFT_IN_DOUBT)
        self._curves.clear()

    def to_json(self) -> str:
        """Everything that was learned, as JSON."""
        tables = [
            {"family": family, "rank": rank, "depth_class": depth} | t.counts()
            for (family, rank, depth), t in self._tables.items()
        ]
        return json.dumps({"version": _VERSION, "knots": KNOTS, "tables": tables})

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """What `to_json` wrote.

        Raises:
            ValueError: it is not that.
        """
        try:
            document = json.loads(text)
            if document["version"] != _VERSION or tuple(document["knots"]) != KNOTS:
                raise ValueError("a calibration of another version")
            calibration = cls()
            calibration._tables = dict(map(_read_table, document["tables"]))
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a calibration: {error!r}") from error
        return calibration

    def _curve(self, keys: Sequence[_Key]) -> list[float]:
        """The estimates at the knots, never falling."""
        means = [min(max(knot, 1 - _SUREST), _SUREST) for knot in KNOTS]
        weights = [0.0] * len(KNOTS)
        for key in keys:
            table = self._tables.get(key)
            if table is not None:
                means, weights = table.posterior(means), table.counts()["weights"]
        return isotonic(means, [weight + _PRIOR_GUESSES for weight in weights])


@dataclass(slots=True)
class _Table:
    """Faded counts at each knot: guesses, and those of them that were committed.

    They fade by letting the unit grow in which new observations are counted.
    """

    weights: list[float]
    hits: list[float]
    unit: float = 1.0

    @classmethod
    def empty(cls) -> "_Table":
        return cls([0.0] * len(KNOTS), [0.0] * len(KNOTS))

    def add(self, place: tuple[int, float], is_committed: bool, share_kept: float) -> None:
        left, share = place
        self.fade(share_kept)
        for knot, part in ((left, 1 - share), (left + 1, share)):
            self.weights[knot] += part * self.unit
            self.hits[knot] += part * self.unit * is_committed

    def fade(self, share: float) -> None:
        self.unit /= share
        if self.unit > _LARGEST_UNIT:
            counts = self.counts()
            self.weights, self.hits, self.unit = counts["weights"], counts["hits"], 1.0

    def counts(self) -> dict[str, list[float]]:
        unit = self.unit
        return {
            "weights": [weight / unit for weight in self.weights],
            "hits": [hit / unit for hit in self.hits],
        }

    def posterior(self, prior: Sequence[float]) -> list[float]:
        prior_weight = _PRIOR_GUESSES * self.unit
        return [
            (hit + prior_weight * mean) / (weight + prior_weight)
            for hit, weight, mean in zip(self.hits, self.weights, prior, strict=True)
        ]


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The never falling sequence that is nearest in weighted squares: pool adjacent violators.

    Args:
        values: any.
        weights: of the values, above 0.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        pool = (value, weight, 1)
        while pools and pools[-1][0] > pool[0]:
            pool = _merged(pools.pop(), pool)
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]


def _merged(
    one: tuple[float, float, int], other: tuple[float, float, int]
) -> tuple[float, float, int]:
    weight = one[1] + other[1]
    return (one[0] * one[1] + other[0] * other[1]) / weight, weight, one[2] + other[2]


def _place(probability: float) -> tuple[int, float]:
    """The knot to the left, and how far towards the next one, in [0, 1]."""
    clamped = min(max(0.0, probability), 1.0)
    left = min(bisect_right(KNOTS, clamped), len(KNOTS) - 1) - 1
    return left, (clamped - KNOTS[left]) / (KNOTS[left + 1] - KNOTS[left])


def _read_table(entry: dict[str, Any]) -> tuple[_Key, _Table]:
    key = (str(entry["family"]), int(entry["rank"]), int(entry["depth_class"]))
    weights, hits = ([float(count) for count in entry[name]] for name in ("weights", "hits"))
    if not len(weights) == len(hits) == len(KNOTS):
        raise ValueError(f"a calibration table of {len(weights)} and {len(hits)} counts")
    if not all(0 <= hit <= weight < 1e9 for hit, weight in zip(hits, weights, strict=True)):
        raise ValueError("a calibration table whose counts are not counts")
    return key, _Table(weights, hits)
