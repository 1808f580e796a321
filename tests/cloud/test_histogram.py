"""Counting in buckets: as counting all values at the end would have it."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.histogram import Histogram

BOUNDS = (0.001, 0.01, 0.1, 1.0)


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=30))
def test_each_bound_counts_the_values_that_are_at_most_that(
    values: list[tuple[float, int]],
) -> None:
    histogram = Histogram(BOUNDS)
    for value, times in values:
        histogram.observe(value, times)
    expected = [sum(times for value, times in values if value <= bound) for bound in BOUNDS]
    assert histogram.cumulative() == [*expected, sum(times for _, times in values)]


def test_the_sum_is_that_of_all_values() -> None:
    histogram = Histogram(BOUNDS)
    histogram.observe(0.5)
    histogram.observe(2.0, times=3)
    assert histogram.sum == 6.5
