"""Whether drafting pays, by what is measured."""

import random

import pytest

from outrider_edge.pay_off import FIRST_REST, LEAST_DRAFTED, TRIAL, PayOff


def rest_share(
    drafted_ms: float, mean_tokens: float, num_passes: int = 3000, round_trip_s: float = 0.05
) -> float:
    """The share of passes in rests, where a pass at rest takes 20 ms and gives one token."""
    coins, pay_off, num_rested = random.Random(1), PayOff(), 0
    for _ in range(num_passes):
        rests = pay_off.is_resting
        num_rested += rests
        tokens = 1 if rests else 1 + (coins.random() < mean_tokens - 1)
        seconds = (0.02 if rests else drafted_ms / 1e3) * coins.uniform(0.9, 1.1)
        pay_off.saw(tokens, seconds, round_trip_s)
    return num_rested / num_passes


def test_drafting_that_makes_passes_longer_than_it_gains_is_rested_from_most_of_the_time() -> None:
    assert rest_share(drafted_ms=25, mean_tokens=1.1) > 0.8


def test_drafting_that_gains_rests_only_to_compare() -> None:
    assert rest_share(drafted_ms=20, mean_tokens=1.28) < 0.08


def test_drafting_that_surely_pays_never_rests() -> None:
    pay_off = PayOff()
    for _ in range(1000):
        pay_off.saw(2, 0.02, 0.05)
    assert pay_off.num_rests == 0


def test_drafting_that_costs_nothing_and_gains_nothing_may_go_on() -> None:
    assert rest_share(drafted_ms=20, mean_tokens=1.0) < 0.2


def test_nothing_is_concluded_before_enough_was_seen() -> None:
    pay_off = PayOff()
    for _ in range(LEAST_DRAFTED - 1):
        pay_off.saw(1, 0.02, 0.0)
        assert not pay_off.is_resting
    pay_off.saw(1, 0.02, 0.0)
    assert pay_off.is_resting


@pytest.mark.parametrize("round_trip_s", [0.0, 0.05, 0.4])
def test_what_is_under_way_when_a_rest_begins_is_not_counted(round_trip_s: float) -> None:
    """A rest lasts as long as the drafts in flight, and the passes that are compared."""
    pay_off, num_rested = PayOff(), 0
    for _ in range(LEAST_DRAFTED):
        pay_off.saw(1, 0.02, round_trip_s)
    while pay_off.is_resting:
        pay_off.saw(1, 0.02, round_trip_s)
        num_rested += 1
    assert num_rested == 1 + round(round_trip_s / 0.02 + 0.49) + TRIAL


def test_a_freeze_during_drafting_is_no_reason_to_rest() -> None:
    """One that took two seconds counts for three passes."""
    pay_off, longest, rested = PayOff(), 0, 0
    for i in range(600):
        seconds = 2.0 if i % 80 == 7 and not pay_off.is_resting else 0.02
        tokens = 1 if pay_off.is_resting else 1 + i % 5 // 4
        pay_off.saw(tokens, seconds, 0.0)
        rested = rested + 1 if pay_off.is_resting else 0
        longest = max(longest, rested)
    assert 0 < longest < FIRST_REST
