"""The line of figures below an answer."""

from dataclasses import replace
from typing import Any

import pytest

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_edge.chat.figures import AnswerFigures
from outrider_edge.estimators import Estimators

STATS = GenerationStats(
    num_accepted_tokens=60,
    num_corrections=20,
    num_hedged=21,
    num_passes=50,
    time_to_first_token_s=1.0,
    duration_s=3.0,
)


def figures(**changes: Any) -> AnswerFigures:
    estimators = Estimators()
    estimators.opened(0.012)
    estimators.passed(0.030, 0.002, num_rows=1)
    estimators.passed(0.090, 0.002, num_rows=5)
    whole = AnswerFigures(FinishReason.STOP, AcceptanceMode.EXACT, STATS, estimators.estimates())
    return replace(whole, **changes)


def test_the_pace_counts_from_the_first_token() -> None:
    assert figures().writing_tokens_per_s == pytest.approx(50)


def test_the_speed_up_is_against_passes_of_one_row() -> None:
    assert figures().speed_up == pytest.approx(50 * (0.030 + 0.002))


def test_all_is_said_in_a_line() -> None:
    assert figures().line(256) == (
        "101 tokens, 50.0 tokens/s, about 1.6 times the cloud alone, acceptance 0.75, "
        "round trip 12.0 ms"
    )


def test_what_is_not_known_is_left_out() -> None:
    one = GenerationStats(num_hedged=1, num_passes=1, time_to_first_token_s=0.5, duration_s=0.5)
    line = figures(stats=one, estimates=Estimators().estimates()).line(256)
    assert line == "1 tokens, 2.0 tokens/s"
    assert figures(stats=one, estimates=None).line(256) == line


@pytest.mark.parametrize(
    ("max_tokens", "says"), [(101, "/set max_tokens=202"), (256, "no more positions")]
)
def test_an_answer_that_was_cut_says_what_to_do(max_tokens: int, says: str) -> None:
    assert says in figures(finish_reason=FinishReason.LENGTH).line(max_tokens)


def test_a_lossy_answer_says_so() -> None:
    assert "lossy (typical)" in figures(acceptance_mode=AcceptanceMode.TYPICAL).line(256)
    assert "lossy" not in figures(acceptance_mode=AcceptanceMode.REJECTION).line(256)
