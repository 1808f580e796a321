"""Errors in the form in which OpenAI's API states them: a status, a body and headers.

Knows every error that a client of the daemon may see, and nothing of how requests come.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from outrider_common.errors import (
    BrokenOffError,
    CapacityError,
    InvalidInputError,
    OutriderError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)

RETRY_AFTER_S: Final = 1.0
"""When a client may come again where nobody knows better."""


class BadRequestError(InvalidInputError):
    """A request that cannot be answered as it is.

    Args:
        message: one sentence.
        param: the parameter at fault, as a path such as `messages[0].content`.
        code: OpenAI's word for the fault, where there is one that clients look for.
        http_status: 400, or what HTTP has for the fault.
    """

    reason: ClassVar[str] = "BAD_REQUEST"

    def __init__(
        self,
        message: str,
        param: str | None = None,
        code: str | None = None,
        http_status: int = 400,
    ) -> None:
        super().__init__(message)
        self.param = param
        self.code = code
        self.http_status = http_status


class ReusedKeyError(InvalidInputError):
    """An idempotency key that stands for another request already."""

    reason: ClassVar[str] = "IDEMPOTENCY_KEY_REUSED"


class TakenBackError(BrokenOffError):
    """Text that a client was told as unverified is wrong, and the client takes nothing back.

    Args:
        text: what is verified.
        num_tokens: of it.
    """

    reason: ClassVar[str] = "TEXT_TAKEN_BACK"

    def __init__(self, text: str, num_tokens: int) -> None:
        super().__init__(
            f"What was written without a verifier, or a part of it, is not what the target writes "
            f"after {num_tokens} tokens; ask again, or with outrider.corrections to be told.",
            text,
            num_tokens,
        )


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What a client gets instead of an answer.

    Attributes:
        status: of HTTP.
        body: the JSON document.
        headers: further headers.
    """

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


def error_answer(error: BaseException) -> ErrorAnswer:
    """An error as the client sees it; what is not meant for people is only named as a failure."""
    match error:
        case BadRequestError():
            body = _body(error, "invalid_request_error", error.code, error.param)
            return ErrorAnswer(error.http_status, body)
        case ReusedKeyError():
            return ErrorAnswer(422, _body(error, "idempotency_error", error.reason.lower()))
        case InvalidInputError() | UnsupportedError():
            return ErrorAnswer(400, _body(error, "invalid_request_error", error.reason.lower()))
        case UnknownModelError():
            return ErrorAnswer(
                404, _body(error, "invalid_request_error", "model_not_found", "model")
            )
        case CapacityError():
            body = _body(error, "rate_limit_error", "rate_limit_exceeded")
            return ErrorAnswer(429, body, _retry_after(error.retry_after_s))
        case BrokenOffError():
            body = _body(error, "server_error", error.reason.lower())
            body["error"] |= {"text_so_far": error.text, "num_tokens": error.num_tokens}
            return ErrorAnswer(503, body, _retry_after(None))
        case UnauthenticatedError() | PermissionDeniedError():
            # The client did nothing wrong, and can do nothing: it is the daemon that was refused.
            return ErrorAnswer(502, _body(error, "server_error", "verifier_refused_daemon"))
        case UnavailableError():
            body = _body(error, "server_error", "verifier_unavailable")
            return ErrorAnswer(503, body, _retry_after(error.retry_after_s))
        case OutriderError():
            return ErrorAnswer(500, _body(error, "server_error", error.reason.lower()))
        case _:
            return ErrorAnswer(500, _body("The daemon failed; its log says why.", "server_error"))


def _body(
    message: object, kind: str, code: str | None = None, param: str | None = None
) -> dict[str, Any]:
    return {"error": {"message": str(message), "type": kind, "param": param, "code": code}}


def _retry_after(seconds: float | None) -> dict[str, str]:
    """The header wants whole seconds."""
    return {"retry-after": str(max(1, math.ceil(seconds or RETRY_AFTER_S)))}
