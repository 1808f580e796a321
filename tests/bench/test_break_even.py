"""Where a policy stops paying."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_bench.break_even import break_even


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ([(0, 1.5), (100, 1.1), (200, 0.9)], "150 ms"),
        ([(0, 1.5), (100, 1.0), (200, 0.5)], "100 ms"),
        ([(0, 0.9), (100, 1.1)], "never pays on the grid"),
        ([(0, 1.5), (400, 1.2)], "pays up to 400 ms and beyond the grid"),
    ],
)
def test_it_is_the_first_crossing_of_one(points: list[tuple[float, float]], words: str) -> None:
    assert str(break_even(points)) == words


@given(st.lists(st.floats(0.1, 3), min_size=2, max_size=7))
def test_it_lies_between_the_last_point_that_pays_and_the_first_that_does_not(
    speedups: list[float],
) -> None:
    points = [(50.0 * i, speedup) for i, speedup in enumerate(speedups)]
    found = break_even(points)
    losing = [rtt for rtt, speedup in points if speedup < 1]
    if found.rtt_ms is not None:
        assert losing[0] - 50 <= found.rtt_ms <= losing[0]
    else:
        assert not losing or not found.pays_at_first
