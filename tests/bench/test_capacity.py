"""With how many sessions a policy keeps to a time per token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_bench.capacity import capacity

POINTS = [(1, 10.0), (4, 20.0), (16, 40.0)]


@pytest.mark.parametrize(
    ("limit_ms", "words"),
    [(9, "fewer than 1"), (10, "1"), (15, "2"), (20, "4"), (30, "10"), (40, "16 or more")],
)
def test_it_is_the_first_crossing_of_the_limit(limit_ms: float, words: str) -> None:
    assert str(capacity(POINTS, limit_ms)) == words


@given(
    times=st.lists(st.floats(1, 100), min_size=1, max_size=6),
    limit_ms=st.floats(1, 100),
    more_ms=st.floats(0, 50),
)
def test_who_may_take_longer_serves_no_fewer(
    times: list[float], limit_ms: float, more_ms: float
) -> None:
    points = [(2**i, ms) for i, ms in enumerate(times)]
    strict, lenient = capacity(points, limit_ms), capacity(points, limit_ms + more_ms)
    assert lenient.sessions >= strict.sessions
    within = [sessions for sessions, ms in points if ms <= limit_ms]
    if not strict.is_least:
        assert within[0] == 1
        assert 1 <= strict.sessions <= points[-1][0]
