"""Errors as OpenAI's clients read them: every one has a status, a type and one sentence."""

import pytest

from outrider_common.errors import (
    CapacityError,
    InvalidPromptError,
    MismatchError,
    OutriderError,
    PermissionDeniedError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from outrider_edge.openai_errors import BadRequestError, error_answer


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (BadRequestError("m", "p", "c"), 400, "invalid_request_error", "c"),
        (BadRequestError("m", http_status=413), 413, "invalid_request_error", None),
        (InvalidPromptError("m"), 400, "invalid_request_error", "invalid_prompt"),
        (UnsupportedError("m"), 400, "invalid_request_error", "unsupported"),
        (UnknownModelError("m"), 404, "invalid_request_error", "model_not_found"),
        (CapacityError("m"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (UnavailableError("m"), 503, "server_error", "verifier_unavailable"),
        (QuotaError("m"), 429, "rate_limit_error", "rate_limit_exceeded"),
        (UnauthenticatedError("m"), 502, "server_error", "verifier_refused_daemon"),
        (PermissionDeniedError("m"), 502, "server_error", "verifier_refused_daemon"),
        (MismatchError("m"), 500, "server_error", "mismatch"),
    ],
)
def test_every_error_has_a_status_and_a_type(
    error: OutriderError, status: int, kind: str, code: str | None
) -> None:
    answer = error_answer(error)
    assert answer.status == status
    body = answer.body["error"]
    assert (body["message"], body["type"], body["code"]) == ("m", kind, code)
    assert set(body) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("seconds", "header"), [(None, "1"), (0.2, "1"), (2.1, "3"), (7.0, "7")])
def test_who_finds_no_room_is_told_when_to_come_again(seconds: float | None, header: str) -> None:
    assert error_answer(CapacityError("m", seconds)).headers == {"retry-after": header}


def test_what_is_not_meant_for_people_is_not_told() -> None:
    answer = error_answer(RuntimeError("secret"))
    assert answer.status == 500
    assert "secret" not in str(answer.body)
