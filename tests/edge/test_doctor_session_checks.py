"""What is made of two short answers, one with drafts and one without."""

import pytest

from outrider_common.records import GenerationStats
from outrider_edge.doctor.findings import Grade
from outrider_edge.doctor.session_checks import Trial, judge, times_of


def a_trial(
    seconds: float, *passes: tuple[int, float], accepted: int = 0, corrected: int = 0
) -> Trial:
    stats = GenerationStats(
        num_accepted_tokens=accepted,
        num_corrections=corrected,
        num_hedged=32 - accepted - corrected,
        time_to_first_token_s=1.0,
        duration_s=1.0 + seconds,
    )
    return Trial(stats, passes)


ALONE = a_trial(31 * 0.030, *[(1, 0.030)] * 31)


def test_a_pass_is_a_line_over_its_rows() -> None:
    drafted = a_trial(0.5, (1, 0.030), (3, 0.034), (5, 0.038), (2, 0.032))
    times = times_of(ALONE, drafted, 0.004)
    assert times.draft_s == 0.004
    assert times.verify_s(1) == pytest.approx(0.030)
    assert times.verify_s(5) == pytest.approx(0.038)


def test_a_pass_that_was_held_up_does_not_move_the_line() -> None:
    passes = [(rows, 0.028 + 0.002 * rows) for rows in (1, 2, 3, 4, 5, 6)]
    drafted = a_trial(0.5, *passes, (7, 3.0))
    assert times_of(ALONE, drafted, 0.004).row_s == pytest.approx(0.002, rel=0.1)


def test_passes_of_one_length_have_rows_for_nothing() -> None:
    assert times_of(ALONE, a_trial(0.5, (4, 0.030)), 0.004).row_s == 0
    assert times_of(ALONE, a_trial(0.5, (1, 0.05), (4, 0.01)), 0.004).row_s == 0


def test_a_good_pair_passes_with_what_was_measured_and_what_is_expected() -> None:
    drafted = a_trial(31 * 0.015, (1, 0.030), (4, 0.033), accepted=24, corrected=1)
    verdict = judge(ALONE, drafted, round_trip_s=0.010, draft_s=0.004)
    assert verdict.grade is Grade.PASS
    assert verdict.figures["speed_up_measured"] == pytest.approx(2.0)
    assert verdict.figures["acceptance"] == pytest.approx(24 / 25)
    stall_s = (1 / 25) * (0.010 + 0.031)
    assert verdict.figures["speed_up_expected"] == pytest.approx(0.030 / (0.004 + stall_s))


def test_a_pair_that_gains_nothing_is_warned_of_with_a_remedy() -> None:
    drafted = a_trial(31 * 0.030, (1, 0.030), (4, 0.033), accepted=6, corrected=18)
    verdict = judge(ALONE, drafted, round_trip_s=0.2, draft_s=0.02)
    assert verdict.grade is Grade.WARN
    assert verdict.figures["speed_up_expected"] == 1
    assert "--proposers none" in verdict.sentence


def test_of_too_few_guesses_nothing_is_expected() -> None:
    drafted = a_trial(31 * 0.030, (1, 0.030), accepted=2, corrected=1)
    verdict = judge(ALONE, drafted, round_trip_s=0.0, draft_s=0.5)
    assert verdict.grade is Grade.WARN
    assert "only 3 guesses came in time" in verdict.sentence
    assert "speed_up_expected" not in verdict.figures
