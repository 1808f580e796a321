"""The plain choice: each point by its own rule from its own row, and what is not a number."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

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
