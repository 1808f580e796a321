"""Whether nodes wait for others: only where no pass is missed by it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.arrival import Forecast, Pace
from outrider_edge.waiting import may_wait, passes_missed

PACE = Pace(interval_s=0.1, spread_s=0.01, queue_s=0.0, round_trip_s=0.02, draft_s=0.01)

seconds = st.floats(0, 1)
paces = st.builds(
    Pace,
    interval_s=st.floats(0.01, 0.2),
    spread_s=st.floats(0.001, 0.05),
    queue_s=st.floats(0, 0.1),
    round_trip_s=st.floats(0, 0.5),
    draft_s=st.floats(0, 0.1),
)


def a_forecast(now_s: float) -> Forecast:
    """Passes begin at 0, 0.1, 0.2, ..., give or take 0.01."""
    return Forecast(PACE, committed_at_s=0.0, now_s=now_s)


def test_a_node_waits_if_the_next_pass_begins_long_after() -> None:
    assert may_wait(a_forecast(0.01), until_s=0.04)


def test_a_node_goes_at_once_if_it_would_miss_a_pass() -> None:
    assert not may_wait(a_forecast(0.05), until_s=0.09)  # it arrives at 0.11 instead of 0.07


def test_a_node_goes_at_once_if_it_might_miss_a_pass() -> None:
    assert not may_wait(a_forecast(0.05), until_s=0.07)  # at 0.09: one standard deviation before


def test_a_node_that_has_missed_a_pass_waits_for_the_next() -> None:
    assert may_wait(a_forecast(0.12), until_s=0.15)


def test_nothing_waits_while_the_pace_is_unknown_or_the_prompt_is_computed() -> None:
    assert not may_wait(Forecast(None, committed_at_s=0.0, now_s=0.01), until_s=0.02)
    assert not may_wait(Forecast(PACE, committed_at_s=None, now_s=0.01), until_s=0.02)


def test_nothing_waits_where_the_starts_of_passes_cannot_be_foreseen() -> None:
    erratic = replace(PACE, spread_s=0.2)
    assert not may_wait(Forecast(erratic, committed_at_s=0.0, now_s=0.01), until_s=0.011)


def test_nothing_waits_for_a_run_that_is_longer_than_a_pass() -> None:
    hurried = replace(PACE, interval_s=1e-9, spread_s=1e-10)
    assert not may_wait(Forecast(hurried, committed_at_s=0.0, now_s=0.01), until_s=0.02)


@given(pace=paces, committed_s=seconds, now_s=seconds, waits_s=seconds, longer_s=seconds)
def test_who_waits_longer_misses_more(
    pace: Pace, committed_s: float, now_s: float, waits_s: float, longer_s: float
) -> None:
    forecast = Forecast(pace, committed_s, committed_s + now_s)
    until_s = forecast.now_s + waits_s
    missed = passes_missed(forecast, pace, until_s)
    assert -1e-9 <= missed <= passes_missed(forecast, pace, until_s + longer_s) + 1e-3


@given(pace=paces, now_s=st.floats(1, 2), num_passes=st.integers(0, 5))
def test_who_waits_for_whole_passes_misses_so_many(
    pace: Pace, now_s: float, num_passes: int
) -> None:
    forecast = Forecast(pace, 0.0, now_s)  # some passes have begun for certain
    until_s = now_s + num_passes * pace.interval_s
    assert passes_missed(forecast, pace, until_s) == pytest.approx(num_passes, abs=1e-3)
