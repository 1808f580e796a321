"""A token bucket: never more than burst and rate allow, and always as much as they do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.token_bucket import TokenBucket

RATES = st.floats(0.01, 1e4)
PAUSES = st.lists(st.floats(-1.0, 10.0), max_size=60)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(rate=RATES, burst=st.floats(1.0, 100.0), pauses=PAUSES, amount=st.floats(0.1, 1.0))
def test_in_any_stretch_of_time_no_more_is_taken_than_burst_and_rate_allow(
    rate: float, burst: float, pauses: list[float], amount: float
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    taken: list[tuple[float, float]] = []
    latest = 0.0
    for pause in pauses:
        clock.now += pause  # clocks may go back
        latest = max(latest, clock.now)
        if bucket.take(amount) == 0.0:
            taken.append((latest, amount))
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            seconds = taken[last][0] - taken[first][0]
            total = sum(one for _, one in taken[first : last + 1])
            assert total <= (burst + rate * seconds) * (1 + 1e-9)


@given(rate=RATES, burst=st.floats(1.0, 100.0), debts=st.lists(st.floats(0.0, 1e3), max_size=20))
def test_after_the_wait_that_it_states_an_amount_is_there(
    rate: float, burst: float, debts: list[float]
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    for debt in debts:
        bucket.charge(debt)
    wait_s = bucket.wait_s(burst)
    assert wait_s == pytest.approx(sum(debts) / rate)
    clock.now += wait_s * (1 + 1e-9) + 1e-9
    assert bucket.take(burst) == 0.0


@given(rate=RATES, burst=st.floats(1.0, 100.0), amount=st.floats(0.1, 1.0))
def test_waiting_just_before_the_time_is_not_enough(
    rate: float, burst: float, amount: float
) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    bucket.charge(burst)
    clock.now += amount / rate * 0.99
    assert bucket.take(amount) > 0.0


def test_what_is_not_there_is_not_taken() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 2.0, clock)
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 1.0]
    clock.now += 1.0
    assert [bucket.take() for _ in range(2)] == [0.0, 1.0]


def test_a_debt_is_paid_before_anything_is_taken() -> None:
    clock = Clock()
    bucket = TokenBucket(10.0, 10.0, clock)
    bucket.charge(30.0)
    assert bucket.wait_s() == 2.0
    clock.now += 2.0
    assert bucket.wait_s() == 0.0
    assert bucket.take(1.0) == pytest.approx(0.1)


def test_a_clock_that_goes_back_and_forth_fills_nothing_twice() -> None:
    clock = Clock()
    bucket = TokenBucket(1.0, 10.0, clock)
    clock.now = 100.0
    assert bucket.take(10.0) == 0.0
    for _ in range(5):
        for clock.now in (95.0, 100.0):
            assert bucket.take(1.0) == pytest.approx(1.0)
