"""What drafting is worth by formula."""

import pytest

from outrider_bench.formulas import Formulas, Pace, synthetic_pace, traced_pace
from outrider_common.generation_trace import DraftSpan, GenerationTrace, PassTrace


def some_formulas(acceptance: float = 0.8) -> Formulas:
    return Formulas(Pace(0.01, 0.05, ""), 0.04, acceptance)


def test_stop_and_wait_takes_the_best_block() -> None:
    by_hand = [
        0.04 * (1 - 0.8 ** (g + 1)) / (1 - 0.8) / (g * 0.01 + 0.1 + 0.05) for g in range(1, 33)
    ]
    assert some_formulas().stop_and_wait(0.1) == pytest.approx(max(by_hand))
    assert some_formulas().stop_and_wait(0.0) >= 0.04 * (1 + 0.8 + 0.64) / (2 * 0.01 + 0.05)


def test_a_streamed_chain_waits_only_after_wrong_guesses() -> None:
    assert some_formulas().chain(0.1) == pytest.approx(0.04 / (0.01 + 0.2 * 0.15))
    assert some_formulas(acceptance=1 - 1e-9).chain(10.0) == pytest.approx(4.0, abs=1e-4)


def test_the_pace_of_a_trace_is_its_medians_with_one_leaf() -> None:
    drafts = [DraftSpan(0.0, s, n, 1) for s, n in [(0.01, 1), (0.012, 1), (0.9, 1), (0.05, 4)]]
    passes = [PassTrace(1.0, 1, (7,), ("",), 0, False, s, 0.0, 1) for s in (0.04, 0.05, 0.9)]
    trace = GenerationTrace("t", "d", 0.0, 0.1, drafts=tuple(drafts), passes=tuple(passes))
    pace = traced_pace(trace)
    assert pace is not None
    assert (pace.draft_s, pace.pass_s) == (0.012, 0.05)
    assert traced_pace(GenerationTrace("t", "d", 0.0, 0.1)) is None


def test_a_synthetic_target_takes_what_it_was_told_and_a_real_one_says_nothing() -> None:
    pace = synthetic_pace("synthetic:c0=55ms,c1=0.5ms,acceptance=0.8", 4.0)
    assert pace is not None
    assert (pace.draft_s, pace.pass_s) == (pytest.approx(0.004), pytest.approx(0.056))
    assert synthetic_pace("smollm2-135m", None) is None
    assert synthetic_pace("smollm2-135m", 4.0) is None
