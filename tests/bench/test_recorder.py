"""What a recorder makes of the passes that it saw."""

import pytest

from outrider_bench.recorder import pass_model
from outrider_common.errors import UnavailableError


def test_the_model_of_a_pass_is_that_of_the_typical_ones() -> None:
    hiccups = [(1, 1.0), (8, 2.0)]
    timed = [(rows, 0.020 + 0.001 * rows) for rows in (1, 1, 1, 8, 8, 3)]
    c0_s, c1_s = pass_model([*timed, *hiccups])
    assert (c0_s, c1_s) == (pytest.approx(0.020), pytest.approx(0.001))


def test_without_larger_passes_a_row_costs_nothing() -> None:
    assert pass_model([(1, 0.02), (1, 0.03), (1, 0.04)]) == (0.03, 0.0)


def test_rows_that_seem_to_cost_less_than_nothing_cost_nothing() -> None:
    assert pass_model([(1, 0.02), (4, 0.01)]) == (0.02, 0.0)


def test_without_a_pass_of_one_row_nothing_is_known() -> None:
    with pytest.raises(UnavailableError, match="raise --tokens"):
        pass_model([(4, 0.01)])
