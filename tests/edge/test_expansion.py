"""The expansion policy: what a draft step is worth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.arrival import Forecast, Pace
from outrider_edge.expansion import (
    LEAST_GAIN,
    MAX_LEAVES,
    Outlook,
    gain_per_step,
    num_leaves,
    num_likelier,
)

IN_TIME = Forecast(pace=None, committed_at_s=None, now_s=0.0)
CHANCES = st.floats(0, 1)


def gain(
    probability: float = 1.0, *, hope: float = 0.8, price: float = 0.0, steps: int = 8
) -> float:
    """What a step gives where everything is in time."""
    outlook = Outlook(probability, math.inf)
    return gain_per_step(outlook, IN_TIME, hope=hope, price=price, room=steps, num_steps=steps)


def gain_at(pace: Pace, hope: float = 0.9, price: float = 0.0, steps: int = 12) -> float:
    """What a step from a frontier gives that was just committed."""
    forecast = Forecast(pace, committed_at_s=0.0, now_s=0.0)
    outlook = Outlook(1.0, forecast.first_start_s)
    return gain_per_step(outlook, forecast, hope=hope, price=price, room=steps, num_steps=steps)


def test_without_a_price_and_in_time_a_step_is_worth_the_chance_of_the_next_node() -> None:
    assert gain(0.5, hope=0.8) == pytest.approx(0.4)


@given(CHANCES, CHANCES, CHANCES, st.integers(1, 12))
def test_the_likelier_leaf_is_never_worth_less(
    one: float, other: float, hope: float, steps: int
) -> None:
    low, high = sorted((one, other))
    assert gain(low, hope=hope, steps=steps) <= gain(high, hope=hope, steps=steps)


@given(CHANCES, CHANCES, CHANCES, CHANCES)
def test_a_higher_price_never_makes_a_step_worth_more(
    probability: float, hope: float, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    dear = gain(probability, hope=hope, price=high)
    assert 0 <= dear <= gain(probability, hope=hope, price=low)


def test_a_step_is_worth_nothing_where_the_next_node_is_below_its_price() -> None:
    assert gain(0.5, hope=0.9, price=0.5) == 0
    assert gain(0.6, hope=0.9, price=0.5) == pytest.approx(0.04)


def test_no_room_is_worth_nothing() -> None:
    assert gain(steps=0) == 0


def test_a_first_node_that_is_too_late_is_drafted_for_the_sake_of_later_ones() -> None:
    near = Pace(interval_s=0.05, spread_s=0.005, queue_s=0, round_trip_s=0.001, draft_s=0.012)
    assert gain_at(near, steps=1) < LEAST_GAIN
    assert gain_at(near) > 0.4


def test_a_drafter_slower_than_the_verifier_is_not_worth_its_while() -> None:
    slow = Pace(interval_s=0.03, spread_s=0.003, queue_s=0, round_trip_s=0.001, draft_s=0.1)
    assert gain_at(slow, hope=1.0) < LEAST_GAIN


def test_a_verifier_too_far_away_for_the_depth_is_not_worth_drafting_for() -> None:
    far = Pace(interval_s=0.05, spread_s=0.005, queue_s=0, round_trip_s=1.0, draft_s=0.01)
    assert gain_at(far, steps=12) < LEAST_GAIN
    assert gain_at(far, hope=0.99, steps=40) > LEAST_GAIN


def test_a_drafter_that_is_mostly_wrong_is_not_worth_its_while() -> None:
    near = Pace(interval_s=0.05, spread_s=0.005, queue_s=0, round_trip_s=0.001, draft_s=0.012)
    assert gain_at(near, hope=0.05) < LEAST_GAIN


# --- how many leaves ------------------------------------------------------------------------------

GAINS = st.lists(st.floats(0.001, 1), min_size=1, max_size=12).map(
    lambda gains: sorted(gains, reverse=True)
)


def rate(gains: list[float], share: float, count: int) -> float:
    """What a run over so many leaves gives for its time."""
    return sum(gains[:count]) / (1 + (count - 1) * share)


@given(GAINS, st.floats(0, 2))
def test_a_run_has_as_many_leaves_as_give_most_for_its_time(
    gains: list[float], share: float
) -> None:
    count = num_leaves(gains, share)
    assert 1 <= count <= min(len(gains), MAX_LEAVES)
    best = max(rate(gains, share, m) for m in range(1, min(len(gains), MAX_LEAVES) + 1))
    assert rate(gains, share, count) == pytest.approx(best)


def test_leaves_that_cost_nothing_more_are_all_taken_and_dear_ones_are_not() -> None:
    assert num_leaves([0.5] * 20, share=0.0) == MAX_LEAVES
    assert num_leaves([0.5, 0.5], share=1.0) == 1
    assert num_leaves([0.5, 0.2, 0.1], share=0.3) == 2  # 0.7 / 1.3 is more than 0.8 / 1.6
    assert num_leaves([], share=0.3) == 0


# --- what is still to come ------------------------------------------------------------------------


@given(
    value=st.floats(0.01, 0.99),
    leaves=st.lists(st.floats(0.001, 1), max_size=8),
    hope=st.floats(0.05, 0.95),
)
def test_the_likelier_nodes_to_come_are_those_that_one_counts(
    value: float, leaves: list[float], hope: float
) -> None:
    to_come = [leaf * hope**step for leaf in leaves for step in range(1, 500)]
    surely, perhaps = (sum(p > value * (1 + e) for p in to_come) for e in (1e-9, -1e-9))
    assert surely <= num_likelier(value, leaves, hope) <= perhaps


def test_nothing_is_hoped_for_below_leaves_without_hope() -> None:
    assert num_likelier(0.5, [1.0, 0.6], hope=0.0) == 0


def test_a_hope_of_certainty_still_ends() -> None:
    assert 0 < num_likelier(0.5, [1.0], hope=1.0) < 1000
