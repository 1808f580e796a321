"""Whether drafting pays, by what is measured."""

import itertools
import random

import pytest

from outrider_edge.pay_off import (
    FIRST_REST,
    LEAST_DRAFTED,
    MOST_PASSES_BETWEEN_TRIALS,
    PASSES_BETWEEN_TRIALS,
    TRIAL,
    PayOff,
    PayOffWatch,
)


def rest_share(
    drafted_ms: float,
    mean_tokens: float,
    num_passes: int = 3000,
    round_trip_s: float = 0.05,
    passes_per_session: int = 3000,
) -> float:
    """The share of passes in rests, where a pass at rest takes 20 ms and gives one token."""
    coins, pay_off, num_rested = random.Random(1), PayOff(), 0
    for i in range(num_passes):
        if i % passes_per_session == 0:
            watch = PayOffWatch(pay_off)
        rests = watch.is_resting
        num_rested += rests
        tokens = 1 if rests else 1 + (coins.random() < mean_tokens - 1)
        seconds = (0.02 if rests else drafted_ms / 1e3) * coins.uniform(0.9, 1.1)
        watch.saw(tokens, seconds, round_trip_s)
    return num_rested / num_passes


@pytest.mark.parametrize("passes_per_session", [3000, 40])
def test_drafting_that_makes_passes_longer_than_it_gains_is_rested_from_most_of_the_time(
    passes_per_session: int,
) -> None:
    assert rest_share(25, mean_tokens=1.1, passes_per_session=passes_per_session) > 0.8


@pytest.mark.parametrize("passes_per_session", [3000, 40])
def test_drafting_that_gains_rests_only_to_compare(passes_per_session: int) -> None:
    assert rest_share(20, mean_tokens=1.4, passes_per_session=passes_per_session) < 0.08


def passes_at_rest(mean_tokens: float, num_passes: int) -> list[int]:
    """When trials began, where a pass takes 20 ms and a rest gives one token a pass."""
    coins, watch, began = random.Random(1), PayOffWatch(PayOff()), []
    for i in range(num_passes):
        was_resting = watch.is_resting
        watch.saw(1 if was_resting else 1 + (coins.random() < mean_tokens - 1), 0.02, 0.0)
        if watch.is_resting and not was_resting:
            began.append(i)
    return began


def test_trials_become_rare_while_drafting_clearly_pays() -> None:
    began = passes_at_rest(mean_tokens=1.5, num_passes=8000)
    gaps = [after - before for before, after in itertools.pairwise(began)]
    assert len(gaps) >= 5
    assert all(1.8 < after / before < 2.2 for before, after in itertools.pairwise(gaps[:4]))
    assert gaps[-1] == pytest.approx(MOST_PASSES_BETWEEN_TRIALS, rel=0.05)


def test_trials_stay_frequent_while_drafting_hardly_pays() -> None:
    began = passes_at_rest(mean_tokens=1.05, num_passes=3000)
    assert len(began) > 3000 / (2 * PASSES_BETWEEN_TRIALS)


def test_drafting_that_surely_pays_never_rests() -> None:
    watch = PayOffWatch(PayOff())
    for _ in range(1000):
        watch.saw(2, 0.02, 0.05)
    assert watch.num_rests == 0


def test_drafting_that_costs_nothing_and_gains_nothing_may_go_on() -> None:
    assert rest_share(drafted_ms=20, mean_tokens=1.0) < 0.2


def test_nothing_is_concluded_before_enough_was_seen() -> None:
    pay_off = PayOff()
    for _ in range(LEAST_DRAFTED - 1):
        pay_off.saw(1, 0.02)
        assert not pay_off.is_resting
    pay_off.saw(1, 0.02)
    assert pay_off.is_resting


@pytest.mark.parametrize("round_trip_s", [0.0, 0.05, 0.4])
def test_what_is_under_way_when_a_session_or_a_rest_begins_is_not_counted(
    round_trip_s: float,
) -> None:
    """Either lasts as long as what is in flight, and then the passes that are counted."""
    watch, num_drafted, num_rested = PayOffWatch(PayOff()), 0, 0
    num_unsettled = 1 + round(round_trip_s / 0.02 + 0.49)
    while not watch.is_resting:
        watch.saw(1, 0.02, round_trip_s)
        num_drafted += 1
    assert num_drafted == num_unsettled + LEAST_DRAFTED
    while watch.is_resting:
        watch.saw(1, 0.02, round_trip_s)
        num_rested += 1
    assert num_rested == num_unsettled + TRIAL
    assert watch.num_rests == 1


def test_a_session_knows_what_the_one_before_has_shown() -> None:
    pay_off = PayOff()
    watch = PayOffWatch(pay_off)
    for _ in range(40):
        watch.saw(1, 0.01 if watch.is_resting else 0.02, 0.0)
    assert watch.is_resting
    assert PayOffWatch(pay_off).is_resting


def test_a_rest_that_others_began_is_settled_by_each_for_itself() -> None:
    pay_off = PayOff()
    one, other = PayOffWatch(pay_off), PayOffWatch(pay_off)
    other.saw(1, 0.02, 0.1)
    while not pay_off.is_resting:
        one.saw(1, 0.02, 0.0)
    for _ in range(1 + 5):
        other.saw(9, 0.02, 0.1)  # in flight: else it would speak for rests
    for _ in range(TRIAL):
        assert other.is_resting
        other.saw(1, 0.02, 0.1)
    assert not other.is_resting


def test_a_freeze_during_drafting_is_no_reason_to_rest() -> None:
    """One that took two seconds counts for three passes."""
    watch, longest, rested = PayOffWatch(PayOff()), 0, 0
    for i in range(600):
        seconds = 2.0 if i % 80 == 7 and not watch.is_resting else 0.02
        tokens = 1 if watch.is_resting else 1 + i % 3 // 2
        watch.saw(tokens, seconds, 0.0)
        rested = rested + 1 if watch.is_resting else 0
        longest = max(longest, rested)
    assert 0 < longest < FIRST_REST
