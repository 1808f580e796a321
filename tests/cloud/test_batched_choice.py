"""The choice from tensors: token for token that of the reference rules, whatever is mixed."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider_cloud import batched_choice
from outrider_cloud.batched_choice import TensorLogits, choose_batched
from outrider_cloud.choice import UNUSABLE, ArrayLogits, ChoicePoint
from outrider_common import noise
from outrider_common.acceptance import (
    AcceptanceRule,
    ExactRule,
    RejectionRule,
    RelaxedMargins,
    RelaxedRule,
    SparseDistribution,
    TypicalRule,
    TypicalThresholds,
)
from outrider_common.sampling import SamplingParams

Rows = NDArray[np.float32]

NOT_NUMBERS = [math.nan, math.inf, -math.inf]
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]


@st.composite
def pass_logits(draw: st.DrawFn) -> Rows:
    """Rows with ties, with impossible tokens, and some that are not numbers."""
    num_rows, vocab_size = draw(st.integers(1, 5)), draw(st.integers(1, 30) | st.integers(60, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.normal(scale=draw(st.sampled_from([0.0, 0.5, 4.0])), size=(num_rows, vocab_size))
    if draw(st.booleans()):
        rows = rows.round()
    rows[rng.random(rows.shape) < draw(st.sampled_from([0.0, 0.5, 0.95]))] = -math.inf
    for row in range(num_rows):
        if draw(st.integers(0, 5)) == 0:
            rows[row, rng.integers(vocab_size)] = draw(st.sampled_from(NOT_NUMBERS))
    return rows.astype(np.float32)


# A temperature may be extreme, but not so that probabilities are equal up to rounding.
temperatures = st.sampled_from([0.0, 1.0, 1e-300, 1e300]) | st.floats(1e-3, 10)
penalties = st.just(0.0) | st.floats(-2, 2)
shares = st.floats(0.01, 0.9)
sampling_params = st.builds(
    SamplingParams,
    temperature=temperatures,
    top_k=st.just(0) | st.integers(1, 40),
    top_p=st.just(1.0) | shares | st.just(0.5),
    min_p=st.just(0.0) | shares,
    repetition_penalty=st.just(1.0) | st.floats(0.1, 10),
    presence_penalty=penalties,
    frequency_penalty=penalties,
    seed=st.integers(0, 2**64 - 1),
)
rules: st.SearchStrategy[AcceptanceRule] = st.one_of(
    st.builds(ExactRule, sampling_params),
    st.builds(RejectionRule, sampling_params),
    st.builds(TypicalRule, sampling_params, st.builds(TypicalThresholds, shares, shares)),
    st.builds(
        RelaxedRule,
        sampling_params,
        st.builds(RelaxedMargins, st.integers(1, 10), st.floats(0, 5)),
    ),
)


@st.composite
def choice_points(draw: st.DrawFn, rows: Rows) -> ChoicePoint:
    """A point with children that its draft yields, and others; the vocabulary may lack some."""
    num_rows, vocab_size = rows.shape
    tokens = st.integers(0, vocab_size + 2)
    texts = st.lists(tokens, max_size=10)
    seed, position = draw(st.integers(0, 2**32)), draw(st.integers(0, 2**64 - 1))
    draft = None
    children = draw(st.lists(tokens, max_size=3))
    if drafted := draw(st.lists(tokens, max_size=8, unique=True)):
        weights = draw(st.lists(st.integers(1, 1000), min_size=len(drafted), max_size=len(drafted)))
        draft = SparseDistribution(tuple(drafted), tuple(weights))
        children += draft.draw(seed, position, 3)
    return ChoicePoint(
        row=draw(st.integers(0, num_rows - 1)),
        position=position,
        rule=draw(rules),
        children=tuple(children),
        draft=draft,
        prompt_tokens=draw(texts),
        output_tokens=draw(texts),
    )


def reference(rows: Rows, points: Sequence[ChoicePoint]) -> list[int]:
    with np.errstate(over="ignore", invalid="ignore"):
        return ArrayLogits(rows).choose(points)


@pytest.mark.parametrize("device", DEVICES)
@given(rows=pass_logits(), data=st.data())
@settings(max_examples=300, deadline=None)
def test_tokens_equal_those_of_the_reference_rules(
    device: str, rows: Rows, data: st.DataObject
) -> None:
    points = data.draw(st.lists(choice_points(rows), max_size=8))
    logits = torch.from_numpy(rows).to(device)
    expected = reference(rows, points)
    assert choose_batched(logits, points) == expected
    assert TensorLogits(logits).choose(points) == expected


@pytest.mark.parametrize("device", DEVICES)
@given(rows=pass_logits(), data=st.data(), num_candidates=st.integers(1, 3))
@settings(max_examples=100, deadline=None)
def test_tokens_do_not_depend_on_how_many_candidates_are_tried_first(
    device: str, rows: Rows, data: st.DataObject, num_candidates: int
) -> None:
    points = data.draw(st.lists(choice_points(rows), max_size=4))
    logits = torch.from_numpy(rows).to(device)
    assert choose_batched(logits, points, num_candidates) == reference(rows, points)


@pytest.mark.parametrize("device", DEVICES)
@given(rows=pass_logits(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_bfloat16_is_judged_as_the_float32_of_the_same_value(
    device: str, rows: Rows, data: st.DataObject
) -> None:
    logits = torch.from_numpy(rows).to(device, torch.bfloat16)
    rounded = logits.float().cpu().numpy()
    points = data.draw(st.lists(choice_points(rows), max_size=4))
    expected = reference(rounded, points)
    assert choose_batched(logits, points) == expected
    assert TensorLogits(logits).choose(points) == expected
    np.testing.assert_array_equal(TensorLogits(logits).numpy(), rounded, strict=True)


@given(rows=pass_logits(), data=st.data())
@settings(max_examples=50, deadline=None)
def test_tokens_do_not_depend_on_how_many_points_fit_into_memory(
    rows: Rows, data: st.DataObject
) -> None:
    points = data.draw(st.lists(choice_points(rows), max_size=8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batched_choice, "MAX_TEMPORARY_BYTES", rows.shape[1] * 200)
        assert choose_batched(torch.from_numpy(rows), points) == reference(rows, points)


ALL_RULES: list[Callable[[SamplingParams], AcceptanceRule]] = [
    ExactRule,
    RejectionRule,
    TypicalRule,
    RelaxedRule,
]
PARAMS = [
    SamplingParams(),
    SamplingParams(temperature=0.8, seed=5),
    SamplingParams(temperature=0.8, top_p=0.95, seed=6),
    SamplingParams(temperature=1.5, top_k=50, min_p=0.02, seed=7),
    SamplingParams(temperature=5.0, repetition_penalty=1.2, frequency_penalty=0.1, seed=8),
]


def realistic_points(num_rows: int) -> list[ChoicePoint]:
    draft = SparseDistribution((1, 2, 30_000, 40_001), (50, 40, 200, 3))
    return [
        ChoicePoint(row, 100 + row, rule(params), (2, 40_001), draft, (1, 2, 3), (3, 3, 40_000))
        for row in range(num_rows)
        for rule in ALL_RULES
        for params in PARAMS
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("vocab_size", [49152, 50_257])
def test_tokens_of_a_whole_vocabulary_equal_those_of_the_reference_rules(
    device: str, vocab_size: int
) -> None:
    rows = np.random.default_rng(3).normal(scale=3, size=(3, vocab_size)).astype(np.float32)
    rows[:, [1, 2, 40_001]] += 14
    points = realistic_points(len(rows))
    logits = torch.from_numpy(rows).to(device)
    assert choose_batched(logits, points) == reference(rows, points)
    assert TensorLogits(logits).choose(points) == reference(rows, points)


def assert_as_the_reference(
    rows: Rows, points: Sequence[ChoicePoint], num_candidates: int = 64
) -> list[int]:
    tokens = choose_batched(torch.from_numpy(rows), points, num_candidates)
    assert tokens == reference(rows, points)
    return tokens


@pytest.mark.parametrize("rule", [TypicalRule, RelaxedRule])
def test_greedy_requests_are_judged_at_temperature_one(
    rule: Callable[[SamplingParams], AcceptanceRule],
) -> None:
    rows = np.random.default_rng(5).normal(size=(300, 12)).astype(np.float32)
    points = [ChoicePoint(row, 0, rule(SamplingParams()), (1, 2)) for row in range(300)]
    tokens = assert_as_the_reference(rows, points)
    is_child = [token in (1, 2) for token in tokens]
    assert any(is_child)
    assert not all(is_child)


def test_a_token_beyond_the_first_candidates_can_win() -> None:
    rows = np.random.default_rng(5).normal(size=(1, 6)).astype(np.float32)
    rule = ExactRule(SamplingParams(temperature=1.0))
    points = [ChoicePoint(0, position, rule) for position in range(1000)]
    assert_as_the_reference(rows, points, num_candidates=1)


def test_of_equal_scores_the_lowest_id_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    def same_words(counter: tuple[Any, ...], key: tuple[Any, ...]) -> tuple[Any, ...]:
        return (0 * (sum(counter) + sum(key)) + 2**31,) * 4

    monkeypatch.setattr(noise, "philox", same_words)
    rows = np.zeros((1, 200), dtype=np.float32)
    rows[0, :5] = -1
    rule = ExactRule(SamplingParams(temperature=1.0))
    assert assert_as_the_reference(rows, [ChoicePoint(0, 1, rule)]) == [5]
    assert assert_as_the_reference(rows, [ChoicePoint(0, 1, rule)], num_candidates=200) == [5]


def test_a_draw_that_the_target_lacks_is_taken_off_like_any_other() -> None:
    rows = np.random.default_rng(5).normal(size=(1, 6)).astype(np.float32)
    rule, draft = RejectionRule(SamplingParams(temperature=1.0)), SparseDistribution((9, 1), (1, 1))
    points = [ChoicePoint(0, position, rule, (9, 1), draft) for position in range(1000)]
    assert_as_the_reference(rows, points)


def test_a_token_exactly_at_the_bound_of_min_p_may_be_sampled() -> None:
    rows = np.array([[0, -1]], dtype=np.float32)
    rule = ExactRule(SamplingParams(temperature=1 / math.log(2), min_p=0.5))
    points = [ChoicePoint(0, position, rule) for position in range(100)]
    assert set(assert_as_the_reference(rows, points)) == {0, 1}
    assert TensorLogits(torch.from_numpy(rows)).choose(points) == reference(rows, points)


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_a_row_that_is_not_numbers_is_unusable_and_disturbs_no_other(number: float) -> None:
    rows = np.random.default_rng(3).normal(size=(3, 50_000)).astype(np.float32)
    points = realistic_points(len(rows))
    before = reference(rows, points)
    rows[1] = -math.inf
    rows[1, 7] = number
    expected = [UNUSABLE if p.row == 1 else token for p, token in zip(points, before, strict=True)]
    assert choose_batched(torch.from_numpy(rows), points) == expected
    assert TensorLogits(torch.from_numpy(rows)).choose(points) == expected


@NEEDS_CUDA
def test_the_choice_on_a_device_keeps_to_its_memory() -> None:
    logits = torch.randn(128, 151_936, device="cuda", dtype=torch.bfloat16)
    params = SamplingParams(temperature=1.0, top_p=0.9, presence_penalty=1.0)
    draft = SparseDistribution((1, 2), (1, 1))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    TensorLogits(logits).choose(
        [ChoicePoint(row, 0, RejectionRule(params), (1, 2), draft) for row in range(128)]
    )
    taken = torch.cuda.max_memory_allocated() - before
    assert taken < 1.25 * batched_choice.MAX_TEMPORARY_BYTES


@pytest.mark.parametrize("device", DEVICES)
def test_whole_trees_are_chosen_on_an_accelerator_only(device: str) -> None:
    logits = TensorLogits(torch.zeros(3, 5, device=device))
    assert logits.num_rows == 3
    assert logits.chooses_whole_trees == (device != "cpu")
    assert logits.choose([]) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
@given(
    num_rows=st.integers(1, 4),
    vocab_size=st.integers(2, 200),
    count=st.integers(1, 8),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_runner_ups_equal_those_of_the_plain_choice(
    device: str, dtype: torch.dtype, num_rows: int, vocab_size: int, count: int, data: st.DataObject
) -> None:
    # Whole numbers up to 256 are no two of them equal in any format.
    shuffled = [data.draw(st.permutations(range(vocab_size))) for _ in range(num_rows)]
    logits = torch.tensor(shuffled, dtype=dtype)
    rows = data.draw(st.lists(st.integers(0, num_rows - 1), min_size=1, max_size=6))
    tokens = [data.draw(st.integers(0, vocab_size - 1)) for _ in rows]
    found = TensorLogits(logits.to(device)).runner_ups(rows, tokens, count)
    assert found == ArrayLogits(logits.float().numpy()).runner_ups(rows, tokens, count)


def test_runner_ups_leave_the_logits_as_they_are() -> None:
    logits = torch.randn(3, 50)
    before = logits.clone()
    TensorLogits(logits).runner_ups([1, 1], [4, 5], 3)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", DEVICES)
@given(
    num_rows=st.integers(1, 4),
    vocab_size=st.integers(1, 200),
    count=st.integers(0, 20),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_log_probabilities_equal_those_of_the_plain_choice(
    device: str, dtype: torch.dtype, num_rows: int, vocab_size: int, count: int, data: st.DataObject
) -> None:
    # Whole numbers up to 256 are no two of them equal in any format.
    shuffled = [data.draw(st.permutations(range(vocab_size))) for _ in range(num_rows)]
    logits = torch.tensor(shuffled, dtype=dtype)
    before = logits.clone()
    rows = data.draw(st.lists(st.integers(0, num_rows - 1), min_size=1, max_size=6))
    tokens = [data.draw(st.integers(0, vocab_size - 1)) for _ in rows]
    found = TensorLogits(logits.to(device)).logprobs(rows, tokens, count)
    plain = ArrayLogits(logits.float().numpy()).logprobs(rows, tokens, count)
    assert torch.equal(logits, before)
    for one, expected in zip(found, plain, strict=True):
        assert one.logprob == pytest.approx(expected.logprob, abs=1e-4)
        assert [token for token, _ in one.top] == [token for token, _ in expected.top]
        assert dict(one.top) == pytest.approx(dict(expected.top), abs=1e-4)
