"""The plain choice: each point by its own rule from its own row, and what is not a number."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax

from outrider_cloud.choice import UNUSABLE, ArrayLogits, ChoicePoint
from outrider_common.acceptance import (
    AcceptanceRule,
    ExactRule,
    RejectionRule,
    RelaxedRule,
    SparseDistribution,
    TypicalRule,
)
from outrider_common.sampling import SamplingParams

WARM = SamplingParams(temperature=1.0, presence_penalty=1.0, seed=4)
RULES: list[AcceptanceRule] = [
    ExactRule(SamplingParams()),
    ExactRule(WARM),
    RejectionRule(WARM),
    TypicalRule(WARM),
    RelaxedRule(WARM),
]


def random_rows(num_rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(num_rows, 40)).astype(np.float32)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_a_point_gets_the_token_of_its_rule_from_its_row(rule: AcceptanceRule) -> None:
    rows = random_rows(3)
    draft = SparseDistribution((3, 4, 5), (10, 20, 30))
    points = [ChoicePoint(row, 7 + row, rule, (5, 3), draft, (1, 2), (2, 2)) for row in (2, 0, 1)]
    expected = [rule.choose(rows[row], 7 + row, (5, 3), draft, (1, 2), (2, 2)) for row in (2, 0, 1)]
    assert ArrayLogits(rows).choose(points) == expected


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_row_that_is_not_numbers_is_unusable_and_disturbs_no_other(
    rule: AcceptanceRule, number: float
) -> None:
    rows = random_rows(3)
    points = [ChoicePoint(row, 9, rule, (5, 3)) for row in range(3)]
    before = ArrayLogits(rows).choose(points)
    rows[1, 30] = number
    assert ArrayLogits(rows).choose(points) == [before[0], UNUSABLE, before[2]]


def test_a_row_of_nothing_but_minus_infinity_is_unusable() -> None:
    rows = np.full((1, 5), -math.inf, dtype=np.float32)
    assert ArrayLogits(rows).choose([ChoicePoint(0, 1, ExactRule(WARM))]) == [UNUSABLE]


def test_logits_are_given_out_as_float32() -> None:
    logits = ArrayLogits(random_rows(3).astype(np.float64))
    assert logits.num_rows == 3
    assert not logits.chooses_whole_trees
    assert logits.numpy().dtype == np.float32
    np.testing.assert_array_equal(logits.numpy(), random_rows(3))


@pytest.mark.parametrize("count", [1, 3, 39, 60])
def test_runner_ups_are_the_largest_logits_but_for_the_chosen_one(count: int) -> None:
    rows = random_rows(3)
    chosen = [int(rows[2].argmax()), int(rows[0].argmin())]
    found = ArrayLogits(rows).runner_ups([2, 0], chosen, count)
    for row, token, runner_ups in zip((2, 0), chosen, found, strict=True):
        ranked = [other for _, other in sorted(zip(-rows[row], range(40), strict=True))]
        assert list(runner_ups) == [other for other in ranked if other != token][:count]


def test_of_equal_logits_the_lowest_runner_up_comes_first() -> None:
    logits = np.array([[1, 2, 0, 2, 2]], dtype=np.float32)
    assert ArrayLogits(logits).runner_ups([0], [3], 3) == [(1, 4, 0)]


@pytest.mark.parametrize("count", [0, 1, 5, 60])
def test_log_probabilities_are_those_of_the_softmax(count: int) -> None:
    rows = random_rows(3)
    rows[1, 7] = -np.inf
    expected = log_softmax(rows.astype(np.float64), axis=-1)
    chosen = [int(rows[2].argmin()), 7]
    found = ArrayLogits(rows).logprobs([2, 1], chosen, count)
    for row, token, one in zip((2, 1), chosen, found, strict=True):
        assert one.logprob == pytest.approx(expected[row, token])
        ranked = sorted(range(40), key=lambda other: -expected[row, other])[:count]
        assert [other for other, _ in one.top] == ranked
        assert [own for _, own in one.top] == pytest.approx(list(expected[row, ranked]))


def test_of_equal_log_probabilities_the_lowest_token_comes_first() -> None:
    logits = np.array([[1, 2, 0, 2, 2]], dtype=np.float32)
    (found,) = ArrayLogits(logits).logprobs([0], [3], 4)
    assert [token for token, _ in found.top] == [1, 3, 4, 0]
