"""Nothing is lost by processes that are killed, either: a short run; `make chaos` is long."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from askers import Asked, IncompleteError, Question
from openai import APIConnectionError, APIError
from process_arena import process_arena
from process_histories import complaints_about, play
from strikes import Strike, StrikeKind

SEEDS = (6, 11, 12, 20)
"""Verifiers and daemons that are killed, stopped and told to end, and links of all kinds."""

QUESTION = Question("a-key", (1, 2), 3, "auto")
REFERENCE = QUESTION.operation().reference
DELIVERED = list(enumerate(REFERENCE, 2))
AT_DAEMON = [Strike(0.0, StrikeKind.KILL, None, 0.1, 0)]
GONE = APIConnectionError(request=httpx2.Request("POST", "http://127.0.0.1"))


@pytest.mark.slow
async def test_no_promise_is_broken_by_processes_that_die(tmp_path: Path) -> None:
    async with process_arena(2, tmp_path) as arena:
        for seed in SEEDS:
            outcome = await play(arena, seed)
            assert outcome.complaints == [], seed
            assert outcome.operations


def asked(*attempts: dict[str, Any]) -> Asked:
    """A question with these answers; those that say nothing else are whole."""
    result = Asked(QUESTION)
    for fields in attempts:
        operation = QUESTION.operation()
        whole = {} if "error" in fields else {"delivered": DELIVERED, "result": REFERENCE}
        for name, value in (whole | fields).items():
            setattr(operation, name, value)
        result.attempts.append(operation)
        if operation.result:
            result.names.append((1.0, "cmpl-1"))
    return result


def test_who_got_the_whole_answer_after_a_while_has_nothing_to_complain_of() -> None:
    assert complaints_about(asked({}, {}), [], []) == []
    cut_off = {"error": GONE, "delivered": DELIVERED[:1]}
    assert complaints_about(asked(cut_off, {}, {}), AT_DAEMON, []) == []


def a_stream_error(code: str) -> APIError:
    request = httpx2.Request("POST", "http://127.0.0.1")
    return APIError("Gone.", request, body={"code": code})


@pytest.mark.parametrize(
    ("attempts", "strikes", "complaint"),
    [
        (({"error": GONE}, {}, {}), [], "though the daemon was well, it failed"),
        (({"error": IncompleteError("x")}, {}, {}), AT_DAEMON, "it failed: IncompleteError"),
        (({"error": a_stream_error("server_error")}, {}, {}), AT_DAEMON, "it failed: APIError"),
        (({"error": GONE, "delivered": [(2, 0)]}, {}, {}), AT_DAEMON, "were delivered instead of"),
        (({"error": GONE}, {"error": GONE}, {}), AT_DAEMON, "of 3 times it was answered 1 times"),
        (({}, {"result": REFERENCE[:1]}), [], "the answer is"),
        (({}, {"error": GONE}), [], "it failed"),
    ],
)
def test_a_broken_promise_to_a_client_is_named(
    attempts: tuple[dict[str, Any], ...], strikes: list[Strike], complaint: str
) -> None:
    found = complaints_about(asked(*attempts), strikes, [])
    assert any(complaint in one for one in found), found


def test_an_answer_keeps_its_name_once_it_is_on_the_disk() -> None:
    one = asked({}, {})
    one.names[1] = (9.0, "cmpl-2")
    assert complaints_about(one, AT_DAEMON, []) == ["the whole answer cmpl-1 was cmpl-2 later"]
    assert len(complaints_about(one, AT_DAEMON, [2.0])) == 1
    assert complaints_about(one, AT_DAEMON, [1.2]) == []
