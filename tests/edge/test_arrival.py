"""Arrival: the formula against a simulated verifier, and what follows from it."""

import math
import random
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.arrival import Forecast, Pace
from outrider_edge.estimators import Estimators

NUM_NODES = 12


def a_pace(**changes: float) -> Pace:
    figures = {"interval_s": 0.05, "queue_s": 0.0, "round_trip_s": 0.02, "draft_s": 0.01}
    figures |= changes
    spread_s = figures.pop("spread_s", 0.1 * figures["interval_s"])
    return Pace(spread_s=spread_s, **figures)


def foreseen(pace: Pace, num_nodes: int = NUM_NODES) -> list[float]:
    """The chance of each node of a chain, drafted from a commit at 0 on, to be in time."""
    forecast = Forecast(pace, committed_at_s=0.0, now_s=0.0)
    start_s, chances = forecast.first_start_s, []
    for step in range(1, num_nodes + 1):
        chances.append(forecast.chance(start_s, forecast.arrival_of_step_s(step, NUM_NODES)))
        start_s = forecast.next_start_s(start_s, chances[-1])
    return chances


def simulated(pace: Pace, coins: random.Random, num_nodes: int = NUM_NODES) -> list[bool]:
    """Which nodes of the chain a verifier finds whose passes begin when they begin.

    It decides all positions whose nodes are there, and one more by itself, pass after pass.
    """
    arrivals = [pace.round_trip_s + (i + 1) * pace.draft_s for i in range(num_nodes)]
    in_time: list[bool] = []
    num_passes = 0
    while len(in_time) < num_nodes:
        begins_s = pace.queue_s + num_passes * pace.interval_s + coins.gauss(0, pace.spread_s)
        while len(in_time) < num_nodes and arrivals[len(in_time)] <= begins_s:
            in_time.append(True)
        in_time.append(False)
        num_passes += 1
    return in_time[:num_nodes]


@pytest.mark.parametrize("round_trip_s", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize("draft_s", [0.004, 0.011, 0.03, 0.08])
def test_the_formula_foresees_how_many_nodes_of_a_chain_arrive_in_time(
    round_trip_s: float, draft_s: float
) -> None:
    """For each beginning of the chain within one node, over 400 simulated ones.

    Where nodes are nearly as slow as passes, the phase of each node against the passes is smeared
    by the formula, so single nodes may differ by more than their sum.
    """
    pace = a_pace(round_trip_s=round_trip_s, draft_s=draft_s)
    coins = random.Random(7)
    runs = [simulated(pace, coins) for _ in range(400)]
    shares = [sum(run[i] for run in runs) / len(runs) for i in range(NUM_NODES)]
    for expected, found in zip(accumulate(foreseen(pace)), accumulate(shares), strict=True):
        assert expected == pytest.approx(found, abs=1)


def test_a_drafter_slower_than_the_verifier_is_never_in_time() -> None:
    assert max(foreseen(a_pace(draft_s=0.1))) < 0.05


def test_a_far_verifier_is_met_by_looking_ahead() -> None:
    chances = foreseen(a_pace(round_trip_s=0.2, draft_s=0.005))
    assert max(chances[:4]) < 0.05  # in 0.2 s it decides four positions by itself
    assert min(chances[6:]) > 0.85


def test_the_child_of_a_frontier_that_was_just_committed_is_too_late() -> None:
    forecast = Forecast(a_pace(), committed_at_s=1.0, now_s=1.0)
    assert forecast.chance(forecast.first_start_s, forecast.arrival_of_step_s(1, NUM_NODES)) < 0.05


def test_nodes_for_which_there_is_no_room_yet_wait_for_a_commit_each() -> None:
    forecast = Forecast(a_pace(), committed_at_s=0.0, now_s=1.0)
    arrivals = [forecast.arrival_of_step_s(step, room=3) for step in (3, 4, 5)]
    assert arrivals == pytest.approx([1.05, 1.07, 1.12])  # 4 * 10 ms, then 2 * 50 ms


def test_a_verifier_that_queues_leaves_time() -> None:
    assert min(foreseen(a_pace(queue_s=0.2))) > 0.9


def test_a_pass_that_lasts_longer_than_usual_leaves_time() -> None:
    late = Forecast(a_pace(), committed_at_s=0.0, now_s=1.0)
    below = late.next_start_s(late.first_start_s, 0.0)
    assert below >= 1.0


@pytest.mark.parametrize("pace", [None, a_pace()])
def test_while_nothing_is_known_everything_is_in_time(pace: Pace | None) -> None:
    forecast = Forecast(pace, committed_at_s=None, now_s=5.0)
    start_s = forecast.first_start_s
    assert forecast.chance(start_s, forecast.arrival_of_step_s(9, NUM_NODES)) == 1
    assert forecast.chance(forecast.next_start_s(start_s, 1.0), 1e9) == 1


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 5))
def test_a_later_node_never_has_a_better_chance(start: float, arrival: float, by: float) -> None:
    forecast = Forecast(a_pace(), 0.0, 0.0)
    chance = forecast.chance(start, arrival)
    assert 0 <= forecast.chance(start, arrival + by) <= chance <= 1


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 20))
def test_the_next_position_is_never_decided_earlier(
    start: float, chance: float, now: float
) -> None:
    assert Forecast(a_pace(), 0.0, now).next_start_s(start, chance) >= start


def test_the_pace_is_known_once_there_are_two_commits_and_a_draft() -> None:
    estimators = Estimators()
    assert Pace.of(estimators.estimates()) is None
    estimators.waited(0.05)
    assert Pace.of(estimators.estimates()) is None
    estimators.drafted(0.01, 1, 1)
    pace = Pace.of(estimators.estimates())
    assert pace is not None
    assert (pace.interval_s, pace.draft_s, pace.round_trip_s) == (0.05, 0.01, 0.0)
    assert pace.spread_s > 0
    assert not math.isinf(Forecast(pace, 0.0, 0.0).first_start_s)
