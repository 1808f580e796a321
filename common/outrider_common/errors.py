"""The error tree. Every error that a person or a peer may see is one of these.

An error carries one sentence that names the value at fault and the remedy, a stable machine
`reason`, and the gRPC status that it becomes at the rim. The core does not import grpc: the
status is its name.
"""

import contextlib
from collections.abc import Iterator
from typing import ClassVar, Final

REASON_METADATA_KEY: Final = "outrider-reason"
"""The trailing metadata of a failed call in which the error's `reason` travels."""

RETRY_METADATA_KEY: Final = "grpc-retry-pushback-ms"
"""The trailing metadata that says when to try again, as gRPC's own retries read it (gRFC A6)."""


class OutriderError(Exception):
    """Base of all errors that are meant to be read by people.

    The message is one sentence: what was wrong, with which value, and what to do.

    Attributes:
        retry_after_s: in how many seconds it may be worth trying again; None if that is not known.
    """

    reason: ClassVar[str] = "INTERNAL"
    status: ClassVar[str] = "INTERNAL"
    retry_after_s: float | None = None


class InvalidInputError(OutriderError):
    """The caller gave a value that can never work."""

    reason = "INVALID_INPUT"
    status = "INVALID_ARGUMENT"


class InvalidSamplingError(InvalidInputError):
    """A sampling parameter is out of range, NaN or contradicts another."""

    reason = "INVALID_SAMPLING"


class InvalidPromptError(InvalidInputError):
    """The prompt is empty, too long for the model, or holds a token that the model lacks."""

    reason = "INVALID_PROMPT"


class ProtocolViolationError(InvalidInputError):
    """A peer sent a message that no correct implementation sends."""

    reason = "PROTOCOL_VIOLATION"


class ConfigError(InvalidInputError):
    """A setting is unknown or has a value that cannot be used."""

    reason = "INVALID_SETTING"


class MismatchError(OutriderError):
    """Two sides do not fit together: another tokenizer, another protocol version."""

    reason = "MISMATCH"
    status = "FAILED_PRECONDITION"


class UnsupportedError(OutriderError):
    """A thing that exists but is not offered here, such as an acceptance mode."""

    reason = "UNSUPPORTED"
    status = "UNIMPLEMENTED"


class UnknownModelError(OutriderError):
    """A model that is not here."""

    reason = "UNKNOWN_MODEL"
    status = "NOT_FOUND"


class ModelFileError(OutriderError):
    """A model directory or drafter bundle is missing, corrupt, half-downloaded or not usable."""

    reason = "MODEL_FILE"
    status = "FAILED_PRECONDITION"


class ParityError(ModelFileError):
    """An exported graph does not compute what the model it came from computes."""

    reason = "PARITY"


class CapacityError(OutriderError):
    """The request is fine but there is no room for it now.

    Args:
        message: one sentence.
        retry_after_s: in how many seconds there may be room; None if that is not known.
    """

    reason = "CAPACITY"
    status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QuotaError(CapacityError):
    """There is room, but not for this tenant now: it has what it may have."""

    reason = "QUOTA"


class SlowReaderError(CapacityError):
    """What an edge does not read is not kept for ever: its session has ended."""

    reason = "SLOW_READER"


class UnauthenticatedError(OutriderError):
    """Nobody can tell who is asking."""

    reason = "UNAUTHENTICATED"
    status = "UNAUTHENTICATED"


class PermissionDeniedError(OutriderError):
    """Whoever asks is known, and may not have this."""

    reason = "PERMISSION_DENIED"
    status = "PERMISSION_DENIED"


class UnavailableError(OutriderError):
    """The other side cannot be reached, or went away in the middle."""

    reason = "UNAVAILABLE"
    status = "UNAVAILABLE"


class DrainingError(UnavailableError):
    """The other side is about to end and takes nothing new.

    Args:
        message: one sentence.
        retry_after_s: in how many seconds its successor may be there.
    """

    reason = "DRAINING"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BrokenOffError(UnavailableError):
    """An answer ended before it was complete, and could not be gone on with in time.

    Args:
        message: one sentence.
        text: what was written until then.
        num_tokens: of it.
    """

    reason = "BROKEN_OFF"

    def __init__(self, message: str, text: str = "", num_tokens: int = 0) -> None:
        super().__init__(message)
        self.text = text
        self.num_tokens = num_tokens


class PortInUseError(OutriderError):
    """A server cannot listen on its address."""

    reason = "PORT_IN_USE"
    status = "FAILED_PRECONDITION"


class MissingExtraError(OutriderError):
    """A command needs an optional part of the distribution that is not installed."""

    reason = "MISSING_EXTRA"
    status = "FAILED_PRECONDITION"


def error_from_wire(reason: str | None, message: str) -> OutriderError:
    """The error that the other side raised; a plain `OutriderError` for a reason not known here."""
    message = message or "The other side failed and did not say why; try again."
    pending = [OutriderError]
    while pending:
        kind = pending.pop()
        if kind.reason == reason:
            return kind(message)
        pending.extend(kind.__subclasses__())
    return OutriderError(message)


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Around a task group: what one of its tasks raised comes out by itself, not in a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from group
