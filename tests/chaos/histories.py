"""What clients of an edge saw, and whether it is what they were promised. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from strikes import Strike

from outrider_common.errors import BrokenOffError, CapacityError, OutriderError, UnavailableError

MAY_FAIL_WITH = (UnavailableError, CapacityError)
"""What an answer may fail with when there is no verifier for longer than it is tried."""


@dataclass(slots=True)
class Operation:
    """One request of a client, and everything that it was given.

    Attributes:
        prompt: its tokens.
        reference: what the target alone writes.
        delivered: position and token, in the order in which they came.
        result: the tokens of the whole answer; None if there was none.
        error: what it failed with.
    """

    prompt: tuple[int, ...]
    reference: tuple[int, ...]
    delivered: list[tuple[int, int]] = field(default_factory=list)
    result: tuple[int, ...] | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class Outcome:
    """One history.

    Attributes:
        seed: from which all of it follows, but for the machine's own timing.
        strikes: what went wrong.
        operations: what clients saw, each time they asked.
        num_answers: how many answers they wanted.
        complaints: the promises that were broken.
        num_resumes: how often answers went on in another session, where that is known.
    """

    seed: int
    strikes: list[Strike]
    operations: list[Operation] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    num_answers: int = 0
    num_resumes: int = 0


def violations(operation: Operation, *, may_fail: bool) -> list[str]:
    """Every broken promise.

    Args:
        operation: what a client saw.
        may_fail: verifiers may have been away for longer than is waited for.
    """
    found = [*of_delivery(operation)]
    match operation.result, operation.error:
        case None, None:
            found.append("it neither ended nor failed")
        case tokens, None:
            found += _of_result(operation, tokens or ())
        case _, error:
            found += _of_failure(operation, error, may_fail)
    return found


def of_delivery(operation: Operation) -> Sequence[str]:
    """Broken promises about what was delivered, whether or not it is the whole answer."""
    start = len(operation.prompt)
    positions = [position for position, _ in operation.delivered]
    if positions != list(range(start, start + len(positions))):
        return [f"positions {positions} were delivered, which are not {start} and onwards"]
    tokens = tuple(token for _, token in operation.delivered)
    if tokens != operation.reference[: len(tokens)]:
        return [f"{tokens} were delivered instead of {operation.reference[: len(tokens)]}"]
    return []


def _of_result(operation: Operation, tokens: tuple[int, ...]) -> Sequence[str]:
    if tokens != operation.reference:
        return [f"the answer is {tokens} instead of {operation.reference}"]
    if len(operation.delivered) != len(tokens):
        return [f"{len(operation.delivered)} of {len(tokens)} tokens were delivered"]
    return []


def _of_failure(operation: Operation, error: object, may_fail: bool) -> Sequence[str]:
    if not isinstance(error, OutriderError):
        return [f"it failed with {error!r}"]
    if not may_fail or not isinstance(error, (*MAY_FAIL_WITH, BrokenOffError)):
        return [f"it failed: {error}"]
    if isinstance(error, BrokenOffError) and error.num_tokens != len(operation.delivered):
        return [f"the error speaks of {error.num_tokens} tokens"]
    if not isinstance(error, BrokenOffError) and operation.delivered:
        return ["the error does not give the text so far"]
    return []
