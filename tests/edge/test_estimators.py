"""Estimators: the pace of link, verifier and drafter, whatever outliers say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.estimators import WINDOW, Estimators, RunningQuantile

ANYTHING = st.floats(0, 1e9)


@given(st.lists(ANYTHING, max_size=(WINDOW - 1) // 2), st.randoms())
def test_outliers_that_are_fewer_than_half_do_not_move_the_median(
    outliers: list[float], shuffle: random.Random
) -> None:
    samples = [*outliers, *(1 + i / 1000 for i in range(WINDOW - len(outliers)))]
    shuffle.shuffle(samples)
    running = RunningQuantile()
    for sample in samples:
        running.add(sample)
    assert running.median is not None
    assert 1 <= running.median <= 1.031


@given(st.lists(ANYTHING, min_size=1, max_size=80), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_are_samples_and_never_fall(
    samples: list[float], one: float, other: float
) -> None:
    running = RunningQuantile()
    for sample in samples:
        running.add(sample)
    low, high = (running.quantile(share) for share in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high
    assert {low, high} <= set(samples[-WINDOW:])


def test_without_samples_there_is_no_quantile_and_no_spread() -> None:
    assert RunningQuantile().median is None
    assert RunningQuantile().spread == 0


def test_a_change_shows_after_half_a_window() -> None:
    running = RunningQuantile(first=[1.0] * WINDOW)
    for _ in range(WINDOW // 2 + 1):
        running.add(5.0)
    assert running.median == 5.0


def test_the_spread_of_normal_samples_is_their_standard_deviation() -> None:
    normal = random.Random(3)
    running = RunningQuantile(window=10_001)
    for _ in range(10_001):
        running.add(normal.gauss(5, 2))
    assert running.spread == pytest.approx(2, rel=0.05)


def test_nothing_is_known_at_first_but_there_is_hope() -> None:
    estimates = Estimators().estimates()
    assert estimates.round_trip_s is None
    assert estimates.hedging_rate_per_s is None
    assert estimates.acceptance is None
    assert estimates.hope == 0.9


def test_a_freeze_moves_no_estimate() -> None:
    estimators = Estimators()
    for i in range(20):
        slow = 100 if i in (3, 11) else 1
        estimators.opened(0.1 * slow)
        estimators.passed(0.05 * slow, 0.01 * slow, num_rows=1)
        estimators.waited(0.06 * slow)
        estimators.drafted(0.02 * slow, 1, 2)
    estimates = estimators.estimates()
    assert estimates.round_trip_s == 0.1
    assert (estimates.pass_s, estimates.queue_s, estimates.interval_s) == (0.05, 0.01, 0.06)
    assert estimates.draft_s == 0.01
    assert estimates.hedging_rate_per_s == pytest.approx(1 / 0.06)


def test_a_plain_pass_is_one_that_computes_one_token_of_the_session() -> None:
    estimators = Estimators()
    estimators.passed(0.09, 0.0, num_rows=5)
    assert estimators.estimates().plain_pass_s is None
    for _ in range(9):
        estimators.passed(0.03, 0.0, num_rows=1)
        estimators.passed(0.09, 0.0, num_rows=5)
    estimates = estimators.estimates()
    assert (estimates.plain_pass_s, estimates.pass_s) == (0.03, 0.09)


@pytest.mark.parametrize("round_trip_s", [0.0, 0.01, 0.1, 0.4])
def test_the_round_trip_is_found_from_passes_that_nodes_missed_and_caught(
    round_trip_s: float,
) -> None:
    """The middle of a bracket is uniform around the truth: a median of 31 is within a quarter."""
    times = random.Random(5)
    interval_s = 0.05
    estimators = Estimators()
    for _ in range(200):
        drafted_s = times.random() * interval_s
        late_s = (drafted_s + round_trip_s) // interval_s * interval_s
        estimators.arrived(late_s - drafted_s, late_s + interval_s - drafted_s)
    found = estimators.estimates().round_trip_s
    assert found == pytest.approx(round_trip_s, abs=interval_s / 4)


def test_the_opening_tells_the_round_trip_until_a_node_does() -> None:
    estimators = Estimators()
    estimators.opened(3.0)  # it had to wait for a place
    assert estimators.estimates().round_trip_s == 3.0
    estimators.arrived(0.1, 0.2)
    assert estimators.estimates().round_trip_s == pytest.approx(0.15)


def test_a_late_node_says_something_only_if_the_estimate_is_too_low() -> None:
    estimators = Estimators()
    estimators.came_late(0.2)
    assert estimators.estimates().round_trip_s == 0.2
    for _ in range(3):
        estimators.came_late(0.1)
    assert estimators.estimates().round_trip_s == 0.2
    for _ in range(3):
        estimators.came_late(0.4)
    assert estimators.estimates().round_trip_s == 0.4


def test_acceptance_is_the_share_of_judged_guesses_and_follows_the_text() -> None:
    estimators = Estimators()
    for i in range(1000):
        estimators.decided(i % 4 != 0)
    assert estimators.estimates().acceptance == pytest.approx(0.75, abs=0.02)
    for _ in range(1000):
        estimators.decided(False)
    assert estimators.estimates().acceptance == pytest.approx(0, abs=0.01)


def test_hope_is_lost_where_proposers_are_silent_or_wrong() -> None:
    estimators = Estimators()
    for _ in range(WINDOW):
        estimators.expects(0.0)
    assert estimators.estimates().hope == 0


def test_a_silent_answer_takes_its_time_too() -> None:
    estimators = Estimators()
    estimators.drafted(0.03, 1, 0)
    assert estimators.estimates().draft_s == 0.03
