"""Pauses between tries."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.backoff import HINT_SPREAD, Backoff


def longest(backoff: Backoff, num_pauses: int) -> list[float]:
    return [backoff.next_s() for _ in range(num_pauses)]


def test_the_bound_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 1.0, uniform=lambda _low, high: high)
    assert longest(backoff, 6) == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(0.1, 1.0, uniform=lambda _low, high: high)
    longest(backoff, 4)
    backoff.reset()
    assert backoff.next_s() == 0.1


def test_pauses_are_spread_over_all_that_is_allowed() -> None:
    pauses = [Backoff(1.0).next_s() for _ in range(400)]
    # Each quarter of the range is empty with a probability of 0.75 ** 400, below 1e-49.
    assert {int(4 * pause) for pause in pauses} >= {0, 1, 2, 3}
    assert all(0 <= pause <= 1 for pause in pauses)


@given(hint_s=st.floats(0, 100), num_pauses=st.integers(1, 12))
def test_nobody_comes_before_the_time_that_was_named(hint_s: float, num_pauses: int) -> None:
    backoff = Backoff(0.1, 5.0)
    for _ in range(num_pauses):
        assert hint_s <= backoff.next_s(hint_s) <= max(hint_s * (1 + HINT_SPREAD), 5.0)
