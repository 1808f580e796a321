"""Calibration: what guesses are worth, learnt from what became of them."""

import itertools
import json
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.calibration import KNOTS, Calibration, GuessKind, isotonic

KIND = GuessKind("lm", rank=0, depth=1)
PROBABILITIES = st.floats(0, 1)
KINDS = st.builds(
    GuessKind,
    st.sampled_from(["lm", "retrieval"]),
    st.integers(0, 6),
    st.integers(1, 20),
    st.sampled_from(["", "sampled"]),
)
FATES = st.lists(st.tuples(KINDS, PROBABILITIES, st.booleans()), max_size=60)


def taught(fates: list[tuple[GuessKind, float, bool]]) -> Calibration:
    calibration = Calibration()
    for kind, probability, is_committed in fates:
        calibration.observe(kind, probability, is_committed)
    return calibration


def teach(
    calibration: Calibration,
    truth: Callable[[float], float],
    num_guesses: int,
    seed: int = 0,
    kind: GuessKind = KIND,
) -> None:
    """Guesses with own probabilities of all sizes that are right with the chance `truth`."""
    coins = random.Random(seed)
    for _ in range(num_guesses):
        probability = coins.random()
        calibration.observe(kind, probability, coins.random() < truth(probability))


@given(FATES, KINDS, PROBABILITIES)
def test_a_chance_is_strictly_between_0_and_1(
    fates: list[tuple[GuessKind, float, bool]], kind: GuessKind, probability: float
) -> None:
    assert 0 < taught(fates).chance(kind, probability) < 1


@given(FATES, KINDS, PROBABILITIES, PROBABILITIES)
def test_a_surer_guess_of_a_kind_is_never_worth_less(
    fates: list[tuple[GuessKind, float, bool]], kind: GuessKind, one: float, other: float
) -> None:
    calibration = taught(fates)
    low, high = sorted((one, other))
    assert calibration.chance(kind, low) <= calibration.chance(kind, high)


def test_rounding_never_makes_the_less_sure_of_two_guesses_worth_more() -> None:
    for num_wrong in range(1, 200):
        calibration = Calibration()
        for _ in range(num_wrong):
            calibration.observe(KIND, 0.8, False)
            calibration.observe(KIND, 0.16, True)  # so much that all knots between are pooled
        assert calibration.chance(KIND, 0.16) <= calibration.chance(KIND, 0.8)


def test_even_a_proposer_that_is_wrong_the_surer_it_is_gets_chances_that_never_fall() -> None:
    calibration = Calibration()
    teach(calibration, lambda p: 1 - p, 1000)
    chances = [calibration.chance(KIND, i / 50) for i in range(51)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(chances))
    assert chances[25] == pytest.approx(0.5, abs=0.1)


@given(st.floats(0.01, 0.99))
def test_a_proposer_of_which_nothing_is_known_is_believed(probability: float) -> None:
    assert Calibration().chance(KIND, probability) == pytest.approx(probability, abs=0.006)


@pytest.mark.parametrize(
    "truth",
    [
        lambda p: p**3,  # far too sure of itself
        math.sqrt,  # too modest
        lambda p: 0.5,  # its probabilities say nothing
        lambda p: 1 / (1 + math.exp(-12 * (p - 0.6))),
    ],
)
def test_a_miscalibrated_proposer_is_seen_through(truth: Callable[[float], float]) -> None:
    """The mean error stays below 0.05, and no error above 0.15, after 4,000 guesses.

    About 100 faded guesses stand behind each knot, a standard deviation of at most 0.05.
    """
    calibration = Calibration()
    teach(calibration, truth, 4000)
    grid = [i / 50 for i in range(1, 50)]
    errors = [abs(calibration.chance(KIND, p) - truth(p)) for p in grid]
    assert sum(errors) / len(errors) < 0.05
    assert max(errors) < 0.15


def test_what_was_true_before_is_forgotten() -> None:
    calibration = Calibration(memory_guesses=256)
    teach(calibration, lambda _: 0.9, 2000)
    assert calibration.chance(KIND, 0.5) == pytest.approx(0.9, abs=0.1)
    teach(calibration, lambda _: 0.1, 2000, seed=1)
    assert calibration.chance(KIND, 0.5) == pytest.approx(0.1, abs=0.1)


def test_a_kind_without_guesses_of_its_own_is_judged_like_its_relatives() -> None:
    calibration = Calibration()
    teach(calibration, lambda _: 0.2, 2000)
    assert calibration.chance(GuessKind("lm", rank=2, depth=9), 0.9) < 0.4
    assert calibration.chance(GuessKind("retrieval", rank=0, depth=1), 0.9) > 0.85


@pytest.mark.parametrize(
    "other",
    [
        GuessKind("lm", rank=1, depth=1),
        GuessKind("lm", rank=0, depth=5),
        GuessKind("lm", rank=0, depth=1, regime="sampled"),
        GuessKind("retrieval", rank=0, depth=1),
    ],
)
def test_kinds_are_told_apart(other: GuessKind) -> None:
    calibration = Calibration()
    for seed in range(4):
        teach(calibration, lambda _: 0.9, 250, seed)
        teach(calibration, lambda _: 0.1, 250, seed + 100, other)
    assert calibration.chance(KIND, 0.5) > 0.75
    assert calibration.chance(other, 0.5) < 0.25


@given(FATES, KINDS, PROBABILITIES)
def test_what_is_written_is_read_again(
    fates: list[tuple[GuessKind, float, bool]], kind: GuessKind, probability: float
) -> None:
    calibration = taught(fates)
    copy = Calibration.from_json(calibration.to_json())
    expected = pytest.approx(calibration.chance(kind, probability), rel=1e-12)
    assert copy.chance(kind, probability) == expected


def spoilt(**changes: object) -> str:
    calibration = Calibration()
    calibration.observe(KIND, 0.5, True)
    document = json.loads(calibration.to_json())
    for key in list(changes):
        if key in document["tables"][0]:
            document["tables"][0][key] = changes.pop(key)
    return json.dumps(document | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"version": 1}',
        spoilt(version=1),
        spoilt(knots=[0, 1]),
        spoilt(weights=[1.0] * 3),
        spoilt(weights=[-1.0] * len(KNOTS)),
        spoilt(hits=[2.0] * len(KNOTS)),
        spoilt(hits=[math.nan] * len(KNOTS)),
        spoilt(weights=[math.inf] * len(KNOTS)),
        spoilt(rank="first"),
        spoilt(tables=[1]),
    ],
)
def test_anything_else_is_refused_with_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Calibration.from_json(text)


@pytest.mark.parametrize("memory", [0.0, 0.5, math.nan])
def test_a_memory_of_less_than_a_guess_is_refused(memory: float) -> None:
    with pytest.raises(ValueError, match="memory_guesses"):
        Calibration(memory)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), min_size=1, max_size=12))
def test_pooling_makes_values_rise_and_keeps_their_weighted_mean(
    pairs: list[tuple[float, float]],
) -> None:
    values, weights = [v for v, _ in pairs], [w for _, w in pairs]
    pooled = isotonic(values, weights)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(pooled))
    before = sum(v * w for v, w in zip(values, weights, strict=True))
    after = sum(v * w for v, w in zip(pooled, weights, strict=True))
    assert after == pytest.approx(before)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).map(sorted))
def test_pooling_leaves_rising_values_alone(values: list[float]) -> None:
    assert isotonic(values, [1.0] * len(values)) == values


# --- doubt ----------------------------------------------------------------------------------------


def distance_after(calibration: Calibration, kind: GuessKind, num_guesses: int) -> float:
    """How far from 1 a chance is after so many guesses that were right."""
    for _ in range(num_guesses):
        calibration.observe(kind, 0.5, True)
    return 1 - calibration.chance(kind, 0.5)


def test_what_is_doubted_is_still_believed_until_new_guesses_say_otherwise() -> None:
    sure, doubtful = Calibration(), Calibration()
    for calibration in (sure, doubtful):
        for _ in range(100):
            calibration.observe(KIND, 0.5, False)
    for _ in range(2):
        doubtful.doubt(KIND.regime)
    assert doubtful.chance(KIND, 0.5) == pytest.approx(sure.chance(KIND, 0.5), abs=0.05)
    assert distance_after(doubtful, KIND, 40) < distance_after(sure, KIND, 40) - 0.2


@given(FATES, KINDS, PROBABILITIES)
def test_doubt_without_end_leaves_the_proposers_own_probability(
    fates: list[tuple[GuessKind, float, bool]], kind: GuessKind, probability: float
) -> None:
    calibration = taught(fates)
    for _ in range(60):
        calibration.doubt("")  # every name of a kind ends with it
    assert calibration.chance(kind, probability) == pytest.approx(
        Calibration().chance(kind, probability)
    )


def test_doubt_of_one_regime_leaves_the_others_as_they_were() -> None:
    calibration = Calibration()
    greedy, sampled = (GuessKind("lm", 0, 1, regime) for regime in ("greedy", "sampled"))
    for kind in (greedy, sampled):
        for _ in range(100):
            calibration.observe(kind, 0.5, False)
    before = calibration.chance(greedy, 0.5), calibration.chance(sampled, 0.5)
    calibration.doubt("greedy")
    after = calibration.chance(greedy, 0.5), calibration.chance(sampled, 0.5)
    assert after[0] > before[0]
    assert after[1] == before[1]
