"""Acceptance: each rule's choice at one point of the tree. Distributions: see the statistics."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider_common import noise
from outrider_common.acceptance import (
    AcceptanceMode,
    AcceptanceRule,
    ExactRule,
    RejectionRule,
    RelaxedMargins,
    RelaxedRule,
    SparseDistribution,
    TypicalRule,
    TypicalThresholds,
    acceptance_rule,
    exact_token,
)
from outrider_common.errors import InvalidSamplingError, ModelFileError, ProtocolViolationError
from outrider_common.noise import Purpose
from outrider_common.sampling import SamplingParams, log_probabilities

VOCAB = 49152

seeds = st.integers(0, 2**64 - 1)
rows = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).normal(scale=2, size=50).astype(np.float32)
)


def plain_exact_token(
    row: NDArray[np.float32], params: SamplingParams, position: int, tokens: Sequence[int]
) -> int:
    """argmax(log p + Gumbel) with the noise of the whole vocabulary."""
    uniforms = noise.uniform_vocabulary(np, params.seed, Purpose.TOKEN, position, len(row))
    return int(
        np.argmax(log_probabilities(row, params, tokens, tokens) + noise.gumbel(np, uniforms))
    )


def logits_of(probabilities: Sequence[float]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        logits: NDArray[np.float64] = np.log(np.array(probabilities))
    return logits


@given(
    row=rows,
    seed=seeds,
    position=st.integers(0, 2**64 - 1),
    temperature=st.floats(1e-3, 10),
    top_k=st.sampled_from([0, 1, 5, 20]),
    top_p=st.sampled_from([1.0, 0.5]),
    penalty=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=300, deadline=None)
def test_the_exact_token_is_the_argmax_of_log_p_plus_gumbel_noise(
    row: NDArray[np.float32],
    seed: int,
    position: int,
    temperature: float,
    top_k: int,
    top_p: float,
    penalty: float,
) -> None:
    params = SamplingParams(
        temperature=temperature, top_k=top_k, top_p=top_p, presence_penalty=penalty, seed=seed
    )
    tokens = [1, 2, 3]
    expected = plain_exact_token(row, params, position, tokens)
    assert exact_token(row, params, position, tokens, tokens) == expected


@pytest.mark.parametrize("top_k", [0, 50, 20_000])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 100.0])
def test_the_exact_token_is_right_on_a_whole_vocabulary(top_k: int, temperature: float) -> None:
    row = np.random.default_rng(0).normal(scale=3, size=VOCAB).astype(np.float32)
    params = SamplingParams(temperature=temperature, top_k=top_k, seed=9)
    for position in range(20):
        expected = plain_exact_token(row, params, position, [])
        assert exact_token(row, params, position, [], []) == expected


def test_the_exact_token_has_golden_values() -> None:
    row = np.linspace(-1, 1, 1000)
    params = SamplingParams(temperature=1.0, seed=2024)
    assert [exact_token(row, params, position, [], []) for position in range(6)] == [
        945,
        741,
        366,
        896,
        890,
        698,
    ]


@given(row=rows, seed=seeds, temperature=st.floats(1e-3, 10), position=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_a_constant_added_to_all_logits_changes_nothing(
    row: NDArray[np.float32], seed: int, temperature: float, position: int
) -> None:
    params = SamplingParams(temperature=temperature, seed=seed)
    rounded = np.round(row * 1024) / 1024  # so that the sums are exact
    chosen = exact_token(rounded, params, position, [], [])
    assert exact_token(rounded + 16, params, position, [], []) == chosen


def test_a_greedy_token_is_the_lowest_of_the_best_and_ignores_seed_and_position() -> None:
    row = np.array([0.0, 2.0, 1.0, 2.0])
    for seed in range(3):
        assert exact_token(row, SamplingParams(seed=seed), seed, [], []) == 1


def test_a_greedy_token_heeds_penalties() -> None:
    params = SamplingParams(presence_penalty=1.5)
    assert exact_token(np.array([2.0, 1.0, 0.0]), params, 0, [0], []) == 0
    assert exact_token(np.array([2.0, 1.0, 0.0]), params, 0, [], [0]) == 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_with_nan_are_refused(temperature: float) -> None:
    with pytest.raises(ModelFileError, match="token 1 is nan"):
        exact_token(np.array([0, math.nan]), SamplingParams(temperature=temperature), 0, [], [])


ALL_RULES: list[Callable[[SamplingParams], AcceptanceRule]] = [
    ExactRule,
    RejectionRule,
    TypicalRule,
    RelaxedRule,
]


@given(
    row=rows,
    seed=seeds,
    position=st.integers(0, 10_000),
    children=st.lists(st.integers(0, 60), max_size=6),
    temperature=st.sampled_from([0.0, 0.7]),
    has_draft=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_every_rule_is_a_pure_function_that_takes_any_children(
    row: NDArray[np.float32],
    seed: int,
    position: int,
    children: list[int],
    temperature: float,
    has_draft: bool,
) -> None:
    params = SamplingParams(temperature=temperature, top_k=20, seed=seed)
    draft = SparseDistribution((3, 55, 0, 7), (5, 1, 8, 2)) if has_draft else None
    for rule in ALL_RULES:
        before = row.copy()
        tokens = {rule(params).choose(row, position, children, draft, [1], [2]) for _ in range(2)}
        assert len(tokens) == 1
        assert np.isfinite(log_probabilities(row, SamplingParams(1.0, 20), [1], [2])[tokens.pop()])
        np.testing.assert_array_equal(row, before)


@given(row=rows, seed=seeds, children=st.lists(st.integers(0, 49), max_size=6))
@settings(max_examples=100, deadline=None)
def test_the_exact_rule_does_not_look_at_the_drafts(
    row: NDArray[np.float32], seed: int, children: list[int]
) -> None:
    params = SamplingParams(temperature=1.0, seed=seed)
    chosen = ExactRule(params).choose(row, 5, children, None, [], [])
    assert chosen == exact_token(row, params, 5, [], [])


@given(row=rows, children=st.lists(st.integers(0, 49), max_size=4))
def test_rejection_without_a_temperature_is_greedy_decoding(
    row: NDArray[np.float32], children: list[int]
) -> None:
    draft = SparseDistribution(tuple(range(50)), (1,) * 50)
    chosen = RejectionRule(SamplingParams()).choose(row, 5, children, draft, [], [])
    assert chosen == row.argmax()


def test_rejection_always_accepts_a_child_that_the_target_favours_more_than_the_drafter() -> None:
    draft = SparseDistribution((0, 1), (1, 3))
    for position in range(200):
        rule = RejectionRule(SamplingParams(temperature=1.0))
        assert rule.choose(logits_of([0.6, 0.4]), position, [0], draft, [], []) == 0


def test_rejection_passes_over_children_that_could_not_have_been_drawn() -> None:
    rule = RejectionRule(SamplingParams(temperature=1.0))
    draft = SparseDistribution((0, 1), (1, 1))
    row = logits_of([0.25] * 4)
    for position in range(100):
        plain = rule.choose(row, position, [0], draft, [], [])
        assert rule.choose(row, position, [3, 0, 0, 2], draft, [], []) == plain


def test_typical_takes_the_most_probable_child_above_the_threshold() -> None:
    rule = TypicalRule(SamplingParams(temperature=1.0))
    row = logits_of([0.5, 0.3, 0.15, 0.05])
    for position in range(50):
        assert rule.choose(row, position, [3, 2, 1], None, [], []) == 1
        exact = exact_token(row, rule.params, position, [], [])
        assert rule.choose(row, position, [3], None, [], []) == exact
        assert rule.choose(row, position, [], None, [], []) == exact


def test_the_typical_threshold_falls_with_the_entropy() -> None:
    # Flat over 64 tokens: exp(-H) = 1/64, so that p = 1/64 > 0.3/64, although it is below 0.09.
    rule = TypicalRule(SamplingParams(temperature=1.0))
    for child in range(64):
        assert rule.choose(np.zeros(64), 0, [child], None, [], []) == child
    # Peaked: exp(-H) = 0.61, so that 0.2 < 0.4 * 0.61.
    peaked = logits_of([0.8, 0.2, 0.0])
    strict = TypicalRule(SamplingParams(), TypicalThresholds(epsilon=1.0, delta=0.4))
    assert strict.choose(peaked, 0, [1], None, [], []) == 0


def test_the_typical_threshold_is_exact() -> None:
    row = logits_of([0.7, 0.2, 0.1])
    p = np.exp(row)
    threshold = 0.3 * math.exp(float(p @ row))
    for epsilon, is_accepted in ((0.0999, True), (0.1001, False)):
        assert epsilon < threshold
        rule = TypicalRule(SamplingParams(), TypicalThresholds(epsilon=epsilon))
        assert rule.choose(row, 0, [2], None, [], []) == (2 if is_accepted else 0)


def test_relaxed_takes_children_within_beta_and_tau() -> None:
    row = logits_of([0.4, 0.3, 0.2, 0.1])

    def choose(children: list[int], beta: int, tau: float) -> int:
        rule = RelaxedRule(SamplingParams(), RelaxedMargins(beta, tau))
        return rule.choose(row, 0, children, None, [], [])

    assert choose([1], beta=2, tau=0.3) == 1
    assert choose([1], beta=1, tau=0.3) == 0
    assert choose([1], beta=2, tau=0.28) == 0
    assert choose([2, 1], beta=3, tau=9) == 1
    assert choose([3], beta=3, tau=9) == 0
    assert choose([3, 3], beta=4, tau=9) == 3
    assert choose([], beta=4, tau=9) == 0


def test_lossy_rules_never_accept_what_may_not_be_sampled() -> None:
    params = SamplingParams(temperature=1.0, top_k=2)
    row = logits_of([0.34, 0.33, 0.33])
    for rule in (TypicalRule(params), RelaxedRule(params, RelaxedMargins(3, 9))):
        assert rule.choose(row, 0, [2], None, [], []) != 2


@pytest.mark.parametrize("mode", AcceptanceMode)
def test_every_mode_has_a_rule(mode: AcceptanceMode) -> None:
    rule = acceptance_rule(mode, SamplingParams())
    assert mode.value in type(rule).__name__.lower()
    assert rule.choose(np.array([0.0, 1.0]), 0, [], None, [], []) == 1


def test_the_settings_of_lossy_modes_reach_their_rules() -> None:
    typical, relaxed = TypicalThresholds(0.5, 0.5), RelaxedMargins(7, 2.0)
    params = SamplingParams()
    assert acceptance_rule(AcceptanceMode.TYPICAL, params, typical, relaxed) == TypicalRule(
        params, typical
    )
    assert acceptance_rule(AcceptanceMode.RELAXED, params, typical, relaxed) == RelaxedRule(
        params, relaxed
    )


def test_only_exact_and_rejection_are_lossless() -> None:
    assert [mode.value for mode in AcceptanceMode if mode.is_lossless] == ["exact", "rejection"]


@pytest.mark.parametrize("value", [0.0, -1.0, 1.5, math.nan, math.inf])
def test_typical_thresholds_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(InvalidSamplingError, match=f"epsilon .* is {value!r}"):
        TypicalThresholds(epsilon=value)
    with pytest.raises(InvalidSamplingError, match=f"delta .* is {value!r}"):
        TypicalThresholds(delta=value)


def test_relaxed_margins_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidSamplingError, match=r"beta .* is 0"):
        RelaxedMargins(beta=0)
    for tau in (-0.1, math.nan, math.inf):
        with pytest.raises(InvalidSamplingError, match=f"tau .* is {tau!r}"):
            RelaxedMargins(tau=tau)


@pytest.mark.parametrize(
    ("token_ids", "weights"),
    [
        ((), ()),
        ((1,), (1, 2)),
        ((1, 1), (1, 2)),
        ((-1, 2), (1, 2)),
        ((1, 2), (0, 1)),
        ((1, 2), (-1, 1)),
        ((1,), (2**32,)),
    ],
)
def test_a_draft_distribution_that_is_none_is_a_protocol_violation(
    token_ids: tuple[int, ...], weights: tuple[int, ...]
) -> None:
    with pytest.raises(ProtocolViolationError, match="draft distribution"):
        SparseDistribution(token_ids, weights)


@given(
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=300).filter(lambda p: sum(p) > 1e-6),
    total=st.sampled_from([255, 65535]),
)
@settings(max_examples=300, deadline=None)
def test_quantised_weights_sum_to_the_total_and_are_off_by_less_than_one(
    shares: list[float], total: int
) -> None:
    ids = range(1000, 1000 + len(shares))
    quantised = SparseDistribution.quantise(ids, shares, total)
    assert sum(quantised.weights) == total
    ideal = np.array(shares) / sum(shares) * total
    weights = dict(zip(quantised.token_ids, quantised.weights, strict=True))
    actual = np.array([weights.get(token, 0) for token in ids])
    assert np.abs(actual - ideal).max() < 1 + 1e-9


def test_the_largest_remainders_are_rounded_up_and_zero_weights_left_out() -> None:
    quantised = SparseDistribution.quantise([7, 8, 9, 1], [5.6, 2.7, 1.65, 0.05], total=10)
    assert quantised == SparseDistribution((7, 8, 9), (5, 3, 2))


def test_quantising_is_a_fixed_point() -> None:
    once = SparseDistribution.quantise([5, 3, 9], [0.5, 0.3, 0.2])
    assert SparseDistribution.quantise(once.token_ids, once.probabilities()) == once
    assert sum(once.probabilities()) == pytest.approx(1)


@given(seed=seeds, position=st.integers(0, 10_000), count=st.integers(0, 6))
@settings(deadline=None)
def test_draws_are_distinct_and_a_longer_draw_begins_with_the_shorter(
    seed: int, position: int, count: int
) -> None:
    draft = SparseDistribution((9, 4, 7, 1), (1, 2, 3, 4))
    drawn = draft.draw(seed, position, count)
    assert len(set(drawn)) == len(drawn) == min(count, 4)
    assert set(drawn) <= set(draft.token_ids)
    assert draft.draw(seed, position, 4)[:count] == drawn
