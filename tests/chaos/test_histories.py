"""The validator of fault histories finds every kind of broken promise."""

from typing import Any

import pytest
from histories import Operation, violations

from outrider_common.errors import BrokenOffError, InvalidPromptError, UnavailableError

PROMPT = (1, 2)
REFERENCE = (5, 6, 7)
DELIVERED = [(2, 5), (3, 6), (4, 7)]


def an_operation(**changes: Any) -> Operation:
    fields: dict[str, Any] = {"delivered": DELIVERED, "result": REFERENCE, "error": None} | changes
    return Operation(PROMPT, REFERENCE, **fields)


def test_a_good_answer_breaks_no_promise() -> None:
    assert violations(an_operation(), may_fail=False) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"result": (5, 6, 8)}, "the answer is"),
        ({"result": (5, 6)}, "the answer is"),
        ({"delivered": DELIVERED[:2]}, "2 of 3 tokens were delivered"),
        ({"delivered": [*DELIVERED, (4, 7)]}, "positions"),
        ({"delivered": [(2, 5), (4, 7)]}, "positions"),
        ({"delivered": [(2, 5), (3, 9), (4, 7)]}, "were delivered instead of"),
        ({"result": None}, "it neither ended nor failed"),
        ({"result": None, "error": KeyError("x")}, "it failed with KeyError"),
        ({"result": None, "error": InvalidPromptError("No.")}, "it failed: No."),
        ({"result": None, "error": UnavailableError("Gone.")}, "it failed: Gone."),
    ],
)
def test_a_broken_promise_is_named(changes: dict[str, Any], complaint: str) -> None:
    assert complaint in violations(an_operation(**changes), may_fail=False)[0]


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (BrokenOffError("Gone.", "ab", 2), None),
        (BrokenOffError("Gone.", "a", 1), "the error speaks of 1 tokens"),
        (UnavailableError("Gone."), "the error does not give the text so far"),
        (InvalidPromptError("No."), "it failed: No."),
    ],
)
def test_an_answer_may_break_off_only_with_the_text_so_far(
    error: Exception, complaint: str | None
) -> None:
    operation = an_operation(delivered=DELIVERED[:2], result=None, error=error)
    found = violations(operation, may_fail=True)
    assert found == ([] if complaint is None else [complaint])
