"""What passes cost, learnt from noisy ones, and the price of a node that follows from it."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.pass_cost import NodePrice, PassCost

FIXED_S, ROW_S = 0.028, 0.0015  # a small model on one core

passes = st.lists(st.tuples(st.integers(1, 4096), st.floats(1e-6, 1e4)), max_size=60)


def learnt(
    num_passes: int,
    fixed_s: float = FIXED_S,
    row_s: float = ROW_S,
    *,
    most_rows: int = 16,
    disturb: Callable[[float, random.Random], float] = lambda seconds, _: seconds,
) -> PassCost:
    """A cost after passes of random rows, their times 5 % off."""
    cost, random_ = PassCost(), random.Random(11)
    for _ in range(num_passes):
        num_rows = random_.randint(1, most_rows)
        seconds = (fixed_s + row_s * num_rows) * random_.gauss(1, 0.05)
        cost.observe(num_rows, disturb(seconds, random_))
    return cost


# Cost


def test_before_the_first_pass_nothing_costs_anything() -> None:
    cost = PassCost()
    assert (cost.fixed_s, cost.row_s, cost.seconds(100)) == (0, 0, 0)
    assert cost.rows_within(0.0, 64) == 64


def test_one_pass_alone_is_taken_for_flat() -> None:
    cost = PassCost()
    cost.observe(16, 0.05)
    assert (cost.fixed_s, cost.row_s) == (0.05, 0)


@given(passes)
def test_costs_are_numbers_and_never_negative_whatever_was_observed(
    observed: list[tuple[int, float]],
) -> None:
    cost = PassCost()
    for num_rows, seconds in observed:
        cost.observe(num_rows, seconds)
        assert 0 <= cost.fixed_s < math.inf
        assert 0 <= cost.row_s < math.inf
        assert cost.fixed_s or cost.row_s


@pytest.mark.parametrize(
    ("fixed_s", "row_s", "most_rows"), [(0.028, 0.0015, 16), (0.055, 0.0003, 256), (0.0, 0.002, 64)]
)
def test_both_costs_are_found(fixed_s: float, row_s: float, most_rows: int) -> None:
    cost = learnt(300, fixed_s, row_s, most_rows=most_rows)
    assert cost.row_s == pytest.approx(row_s, rel=0.2)
    for num_rows in (1, most_rows // 2, most_rows):
        expected = fixed_s + row_s * num_rows
        assert cost.seconds(num_rows) == pytest.approx(expected, rel=0.1, abs=row_s)


def test_a_few_passes_give_the_first_idea() -> None:
    assert learnt(20).row_s == pytest.approx(ROW_S, rel=0.4)


def test_one_freeze_changes_next_to_nothing() -> None:
    cost = learnt(300)
    before = cost.seconds(8)
    cost.observe(8, 10.0)
    assert cost.seconds(8) == pytest.approx(before, rel=0.05)


def test_slow_passes_now_and_then_change_little() -> None:
    def slow(seconds: float, random_: random.Random) -> float:
        return seconds * (20 if random_.random() < 0.02 else 1)

    assert learnt(500, disturb=slow).seconds(8) == pytest.approx(learnt(500).seconds(8), rel=0.1)


def test_a_first_pass_that_is_very_slow_is_soon_forgotten() -> None:
    cost = PassCost()
    cost.observe(16, 10.0)
    for number in range(50):
        num_rows = 1 + number % 16
        cost.observe(num_rows, FIXED_S + ROW_S * num_rows)
    assert cost.seconds(8) == pytest.approx(FIXED_S + ROW_S * 8, rel=0.1)


def test_a_machine_that_has_become_twice_as_slow_is_noticed() -> None:
    cost = learnt(300)
    for number in range(150):
        num_rows = 1 + number % 16
        cost.observe(num_rows, 2 * (FIXED_S + ROW_S * num_rows))
    assert cost.seconds(8) == pytest.approx(2 * (FIXED_S + ROW_S * 8), rel=0.1)


def test_one_odd_pass_after_many_equal_ones_does_not_fool_it() -> None:
    cost = learnt(100)
    for _ in range(50_000):
        cost.observe(16, FIXED_S + ROW_S * 16)
    assert cost.row_doubt(16) < 0.4
    cost.observe(17, 1.2 * (FIXED_S + ROW_S * 17))
    assert cost.row_s < 2 * ROW_S


def test_a_row_that_was_found_too_dear_becomes_cheaper_while_nothing_tells() -> None:
    cost = learnt(100, 0.0, 0.005)
    dear = cost.row_s
    for _ in range(4000):
        cost.observe(16, 0.08)
    assert cost.row_s < dear / 4
    assert cost.seconds(16) == pytest.approx(0.08, rel=0.05)


def test_a_rows_cost_is_in_doubt_while_all_passes_are_alike_and_known_when_they_differ() -> None:
    cost = PassCost()
    assert cost.row_doubt(16) == 0
    for _ in range(300):
        cost.observe(16, FIXED_S + ROW_S * 16)
    assert cost.row_doubt(16) > 0.2
    assert learnt(300).row_doubt(16) < 0.1


@given(passes, st.floats(0, 1e4), st.integers(0, 4096))
def test_rows_within_a_time_fit_and_one_more_would_not(
    observed: list[tuple[int, float]], seconds: float, most: int
) -> None:
    cost = PassCost()
    for passed in observed:
        cost.observe(*passed)
    num_rows = cost.rows_within(seconds, most)
    assert 0 <= num_rows <= most
    slack = 1e-9 * (1 + seconds)  # rounding
    assert num_rows == 0 or cost.seconds(num_rows) <= seconds + slack
    assert num_rows == most or cost.seconds(num_rows + 1) >= seconds - slack


@pytest.mark.parametrize(
    ("num_rows", "seconds", "name"),
    [(0, 1.0, "num_rows is 0"), (1, 0.0, "seconds"), (1, math.nan, "nan"), (1, math.inf, "inf")],
)
def test_a_pass_that_cannot_have_been_is_refused(num_rows: int, seconds: float, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PassCost().observe(num_rows, seconds)


# Price


class KnownCost(PassCost):
    """A cost that needs no learning."""

    def __init__(self, fixed_s: float, row_s: float) -> None:
        super().__init__()
        self._known = (fixed_s, row_s)

    @property
    def row_s(self) -> float:
        return self._known[1]

    def seconds(self, num_rows: float) -> float:
        fixed_s, row_s = self._known
        return fixed_s + row_s * num_rows


def test_the_price_is_zero_while_nothing_is_known_and_where_passes_are_flat() -> None:
    assert NodePrice(PassCost()).price == 0
    flat = PassCost()
    flat.observe(16, 0.05)
    price = NodePrice(flat)
    price.observe(16, 16)
    assert price.price == 0


def test_the_price_is_the_time_of_a_row_times_the_token_rate() -> None:
    cost = learnt(300)
    price = NodePrice(cost)
    price.observe(32, 24)
    assert price.price == pytest.approx(cost.row_s * 24 / (cost.fixed_s + cost.row_s * 32))


def test_a_pass_that_is_all_prefill_leaves_the_price_as_it_is() -> None:
    price = NodePrice(learnt(300))
    price.observe(32, 24)
    before = price.price
    price.observe(256, 0)
    assert price.price == before


@given(passes, st.lists(st.tuples(st.integers(1, 512), st.integers(0, 512)), max_size=20))
def test_the_price_is_within_0_and_1_whatever_was_observed(
    observed: list[tuple[int, float]], outcomes: list[tuple[int, int]]
) -> None:
    cost = PassCost()
    price = NodePrice(cost)
    for passed in observed:
        cost.observe(*passed)
    for outcome in outcomes:
        price.observe(*outcome)
    assert 0 <= price.price <= 1


@given(
    st.floats(0.0, 0.1),
    st.floats(1e-5, 0.01),
    st.lists(st.floats(0.05, 0.98), min_size=1, max_size=12),
    st.integers(0, 64),
)
def test_drafting_by_the_price_reaches_the_best_rate_that_there_is(
    fixed_s: float, row_s: float, acceptances: list[float], num_prefill: int
) -> None:
    # Every session always has a chain of 8 nodes, and a pass gives what it should on average.
    cost = KnownCost(fixed_s, row_s)
    values = sorted((a**depth for a in acceptances for depth in range(1, 9)), reverse=True)
    least_rows = len(acceptances) + num_prefill

    def rows_and_tokens(num_nodes: int) -> tuple[int, float]:
        return least_rows + num_nodes, len(acceptances) + sum(values[:num_nodes])

    def rate(num_nodes: int) -> float:
        num_rows, num_tokens = rows_and_tokens(num_nodes)
        return num_tokens / cost.seconds(num_rows)

    price, num_nodes = NodePrice(cost), 0
    for _ in range(200):
        num_nodes = sum(value >= price.price for value in values)
        num_rows, num_tokens = rows_and_tokens(num_nodes)
        price.observe(num_rows, num_tokens)
    best = max(rate(number) for number in range(len(values) + 1))
    assert rate(num_nodes) >= 0.999 * best


CURVE = [(1, 0.021), (8, 0.023), (16, 0.035), (32, 0.056), (64, 0.1), (128, 0.2)]


def a_calibrated_cost() -> PassCost:
    cost = PassCost()
    cost.calibrate(CURVE)
    return cost


@given(st.integers(1, 300))
def test_a_measured_curve_is_followed_and_goes_on_beyond_its_end(num_rows: int) -> None:
    cost = a_calibrated_cost()
    below = max((s for rows, s in CURVE if rows <= num_rows), default=0.0)
    above = min((s for rows, s in CURVE if rows >= num_rows), default=math.inf)
    assert below <= cost.seconds(num_rows) + 1e-12
    assert cost.seconds(num_rows) <= above + 1e-12
    assert cost.seconds(192) == pytest.approx(0.3)


def test_where_a_curve_is_flat_a_row_is_nearly_free_and_where_it_is_steep_it_is_not() -> None:
    cost = a_calibrated_cost()
    assert cost.cheapest_row_s(2) < 0.0005
    assert cost.cheapest_row_s(64) > 0.0014


def test_of_several_measurements_the_median_counts_and_none_falls() -> None:
    cost = PassCost()
    cost.calibrate([(1, 0.02), (1, 0.5), (1, 0.021), (4, 0.019), (8, 0.03)])
    assert cost.seconds(1) == pytest.approx(0.021)
    assert cost.seconds(4) == pytest.approx(0.021)


def test_a_calibrated_cost_learns_that_everything_has_become_slower_but_not_from_one_freeze() -> (
    None
):
    cost = a_calibrated_cost()
    cost.observe(8, 5.0)
    assert cost.seconds(8) < 0.023 * 1.02
    for _ in range(200):
        cost.observe(8, 0.046)
    assert cost.seconds(8) == pytest.approx(0.046, rel=0.05)
    assert cost.seconds(128) == pytest.approx(0.4, rel=0.05)


@given(st.floats(0.001, 0.5), st.integers(1, 300))
def test_as_many_rows_as_fit_are_within_the_time(seconds: float, most: int) -> None:
    cost = a_calibrated_cost()
    fitting = cost.rows_within(seconds, most)
    assert 0 <= fitting <= most
    assert fitting == 0 or cost.seconds(fitting) <= seconds + 1e-12
    assert fitting == most or cost.seconds(fitting + 1) > seconds - 1e-12
