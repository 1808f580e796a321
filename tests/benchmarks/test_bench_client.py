"""What the bench client of others must have understood of a daemon."""

from typing import Any

from bench_client import SAME, SHOWN, faults


def an_export(**changes: Any) -> dict[str, Any]:
    """What AIPerf writes when all was well, for 12 requests."""
    names = {*SHOWN, *(name for pair in SAME for name in pair)}
    export: dict[str, Any] = {name: {"avg": 12.0} for name in names}
    return export | {"request_error_rate": {"avg": 0.0}} | changes


def test_what_is_understood_and_agrees_is_no_fault() -> None:
    assert faults(an_export(), 12) == []


def test_a_figure_of_speculation_that_was_not_found_is_named() -> None:
    found = an_export()
    del found["spec_decode_steps"]
    assert faults(found, 12) == ["AIPerf found no spec_decode_steps."]


def test_requests_that_failed_or_are_missing_are_faults() -> None:
    assert faults(an_export(request_error_rate={"avg": 8.3}), 12) == ["Requests failed."]
    assert faults(an_export(), 13) == ["Not all of 13 requests were answered."]


def test_two_readings_of_one_figure_must_agree() -> None:
    found = an_export(total_accepted_draft_tokens={"avg": 1.0})
    (said,) = faults(found, 12)
    assert "total_usage_accepted_prediction_tokens" in said
