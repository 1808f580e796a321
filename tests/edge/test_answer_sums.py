"""Sums over answers."""

from outrider_common.records import GenerationStats
from outrider_edge.answer_sums import LATEST, AnswerSums


def an_answer(num_drafted: int, seconds: float) -> GenerationStats:
    return GenerationStats(
        num_accepted_tokens=num_drafted,
        num_corrections=1,
        num_hedged=2,
        num_passes=3,
        num_rests=1,
        duration_s=seconds,
    )


def test_answers_are_added_up_and_ratios_are_of_the_sums() -> None:
    sums = AnswerSums()
    sums.add(an_answer(num_drafted=3, seconds=1.0))
    sums.add(an_answer(num_drafted=9, seconds=2.0))
    assert (
        sums.total()
        == sums.latest()
        == {
            "num_answers": 2,
            "num_tokens": 18,
            "num_accepted_tokens": 12,
            "num_corrections": 2,
            "num_passes": 6,
            "num_rests": 2,
            "num_resumes": 0,
            "tokens_per_s": 6.0,
            "acceptance_rate": 12 / 14,
            "tokens_per_pass": 3.0,
        }
    )


def test_the_latest_forget_what_the_total_keeps() -> None:
    sums = AnswerSums()
    for _ in range(LATEST):
        sums.add(an_answer(num_drafted=0, seconds=1.0))
    for _ in range(LATEST):
        sums.add(an_answer(num_drafted=7, seconds=1.0))
    assert sums.latest()["tokens_per_s"] == 10.0
    assert sums.total()["tokens_per_s"] == 6.5
    assert sums.num_answers == 2 * LATEST


def test_ratios_of_nothing_are_not_known() -> None:
    assert AnswerSums().total()["tokens_per_s"] is None
    assert AnswerSums().latest()["acceptance_rate"] is None
