"""What draft nodes are taken to be worth, from what was accepted."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.node_value import NodeValue

any_prior = st.floats(0.01, 0.99)
observation = st.integers(1, 16).flatmap(
    lambda levels: st.tuples(st.integers(0, levels), st.just(levels))
)
any_history = st.lists(st.none() | observation, max_size=60)  # None: a pass without drafts


def after(history: list[tuple[int, int] | None], prior: float = 0.7) -> NodeValue:
    value = NodeValue(prior)
    for passed in history:
        if passed is None:
            value.rest()
        else:
            value.observe(*passed)
    return value


def draw_accepted(chance: float, num_levels: int, random_: random.Random) -> int:
    num_accepted = 0
    while num_accepted < num_levels and random_.random() < chance:
        num_accepted += 1
    return num_accepted


@given(any_prior, any_history)
def test_an_estimate_is_a_chance_and_never_certain(
    prior: float, history: list[tuple[int, int] | None]
) -> None:
    assert 0 < after(history, prior).acceptance < 1


@given(any_prior)
def test_before_anything_was_observed_the_prior_holds(prior: float) -> None:
    assert NodeValue(prior).acceptance == pytest.approx(prior)


@given(any_prior, any_history, observation)
def test_a_pass_that_accepts_all_raises_the_estimate_and_one_that_accepts_none_lowers_it(
    prior: float, history: list[tuple[int, int] | None], last: tuple[int, int]
) -> None:
    _, num_levels = last
    before = after(history, prior).acceptance
    assert after([*history, (num_levels, num_levels)], prior).acceptance > before
    assert after([*history, (0, num_levels)], prior).acceptance < before


@given(any_prior, any_history)
def test_resting_never_leads_away_from_the_prior_and_in_the_end_back_to_it(
    prior: float, history: list[tuple[int, int] | None]
) -> None:
    value = after(history, prior)
    distance = abs(value.acceptance - prior)
    for _ in range(800):
        value.rest()
        assert abs(value.acceptance - prior) <= distance + 1e-12
        distance = abs(value.acceptance - prior)
    assert distance < 1e-3


def test_levels_below_a_rejected_one_say_nothing() -> None:
    assert after([(1, 2)]).acceptance == after([(1, 16)]).acceptance
    assert after([(0, 1)]).acceptance == after([(0, 16)]).acceptance


@pytest.mark.parametrize("chance", [0.2, 0.5, 0.8, 0.98])
def test_the_estimate_finds_the_acceptance(chance: float) -> None:
    # The error of one estimate has a standard deviation of at most 0.05 (counts of about 64
    # levels); that of the mean of 200 distant ones is 0.0035, and 0.04 leaves room for the prior.
    random_, value, estimates = random.Random(7), NodeValue(), []
    for number in range(200 * 50):
        value.observe(draw_accepted(chance, 4, random_), 4)
        if number % 50 == 49:
            estimates.append(value.acceptance)
    assert sum(estimates) / len(estimates) == pytest.approx(chance, abs=0.04)


def test_a_drafter_that_has_become_good_is_found_out_although_it_was_not_worth_its_row() -> None:
    value, price = NodeValue(), 0.5
    for _ in range(200):
        value.observe(0, 1)
    assert value.acceptance < price
    for _ in range(300):
        if value.acceptance < price:
            value.rest()
        else:
            value.observe(4, 4)
    assert value.acceptance > 0.9


def test_a_drafter_that_is_always_wrong_is_seldom_probed() -> None:
    value, num_probes = NodeValue(), 0
    for _ in range(2000):
        if value.acceptance < 0.47:
            value.rest()
        else:
            value.observe(0, 1)
            num_probes += 1
    assert 2000 / 80 < num_probes < 2000 / 35


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
def test_a_prior_that_is_no_chance_or_a_certainty_is_refused(prior: float) -> None:
    with pytest.raises(ValueError, match="prior_acceptance"):
        NodeValue(prior)


@pytest.mark.parametrize("observed", [(0, 0), (-1, 3), (4, 3)])
def test_an_impossible_observation_is_refused(observed: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="levels accepted"):
        NodeValue().observe(*observed)
