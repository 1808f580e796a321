"""What is known of one of several verifiers."""

import pytest

from outrider_common.errors import (
    CapacityError,
    DrainingError,
    InvalidPromptError,
    OutriderError,
    UnavailableError,
)
from outrider_edge.availability import Availability, State


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UnavailableError("gone"), State.UNREACHABLE),
        (DrainingError("ends", 9.0), State.DRAINING),
        (CapacityError("full", 9.0), State.FULL),
        (OutriderError("it failed"), State.UNREACHABLE),
    ],
)
def test_a_verifier_that_failed_is_not_asked_until_it_answers(
    error: OutriderError, state: State
) -> None:
    availability = Availability()
    availability.answered()
    availability.failed(error, now_s=100.0)
    assert (availability.state, availability.is_usable) == (state, False)
    assert availability.why == str(error)
    assert availability.until_s >= 100 + (error.retry_after_s or 0)
    availability.answered()
    assert availability.is_usable
    assert availability.why == ""


def test_a_request_that_was_refused_says_nothing_of_the_verifier() -> None:
    availability = Availability()
    availability.answered()
    availability.failed(InvalidPromptError("too long"), now_s=1.0)
    assert availability.is_usable


def test_one_that_fails_again_and_again_is_avoided_longer_and_longer() -> None:
    availability = Availability()
    until = []
    for _ in range(8):
        availability.failed(UnavailableError("gone"), now_s=0.0)
        until.append(availability.until_s)
    assert until == [1, 2, 4, 8, 16, 30, 30, 30]


def test_one_that_is_of_no_use_is_not_asked() -> None:
    availability = Availability()
    availability.is_unfit("It has another tokenizer.")
    assert not availability.is_usable
