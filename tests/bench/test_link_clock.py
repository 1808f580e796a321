"""Link time stands still in freezes, for any freezes."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_bench.link_clock import LinkClock

seconds = st.floats(0, 100).map(lambda value: round(value, 3))
freezes = st.lists(st.tuples(seconds, seconds), max_size=10)


def thawed_s(intervals: list[tuple[float, float]], until_s: float) -> float:
    """Seconds from 0 in no interval; the intervals are in the order of their beginnings."""
    frozen_s = end_s = 0.0
    for start_s, stop_s in intervals:
        stop_s = min(stop_s, until_s)
        frozen_s += max(0.0, stop_s - max(start_s, end_s))
        end_s = max(end_s, stop_s)
    return until_s - frozen_s


@settings(deadline=None)
@given(seconds, freezes, seconds)
def test_link_time_is_the_time_in_which_nothing_was_frozen(
    opened_s: float, steps: list[tuple[float, float]], rest_s: float
) -> None:
    clock = LinkClock(opened_s)
    now_s, intervals = 0.0, []
    for after_s, for_s in steps:
        now_s += after_s
        clock.freeze(opened_s + now_s, for_s)
        intervals.append((now_s, now_s + for_s))
    now_s += rest_s
    expected_s = thawed_s(intervals, now_s)
    assert clock.link_s(opened_s + now_s) == pytest.approx(expected_s, abs=1e-6)


@settings(deadline=None)
@given(freezes, seconds)
def test_a_link_time_comes_when_the_clock_says(
    steps: list[tuple[float, float]], ahead_s: float
) -> None:
    clock = LinkClock(0)
    now_s = 0.0
    for after_s, for_s in steps:
        now_s += after_s
        clock.freeze(now_s, for_s)
    link_s = clock.link_s(now_s) + ahead_s
    wall_s = clock.wall_s(link_s)
    assert wall_s >= now_s + ahead_s - 1e-9
    assert clock.link_s(wall_s) == pytest.approx(link_s, abs=1e-6)


def test_a_freeze_for_ever_ends_with_a_thaw() -> None:
    clock = LinkClock(10)
    clock.freeze(12)
    assert clock.is_frozen(1e9)
    assert clock.wall_s(3) == math.inf
    clock.thaw(20)
    assert not clock.is_frozen(20)
    assert clock.link_s(21) == 3
    assert clock.wall_s(3) == 21


def test_a_thaw_of_what_is_not_frozen_changes_nothing() -> None:
    clock = LinkClock(0)
    clock.freeze(1, 1)
    clock.thaw(5)
    assert clock.link_s(6) == 5


def test_a_shorter_freeze_does_not_end_a_longer_one() -> None:
    clock = LinkClock(0)
    clock.freeze(1, 10)
    clock.freeze(2, 1)
    assert clock.is_frozen(10.9)
    assert not clock.is_frozen(11)


@given(freezes)
def test_what_is_due_now_or_overdue_comes_when_the_freeze_is_over_and_not_before(
    steps: list[tuple[float, float]],
) -> None:
    clock = LinkClock(0)
    now_s = 0.0
    for after_s, for_s in steps:
        now_s += after_s
        clock.freeze(now_s, for_s)
    now_link_s = clock.link_s(now_s)
    for link_s in (now_link_s, now_link_s / 2):
        assert not clock.is_frozen(max(now_s, clock.wall_s(link_s)))
