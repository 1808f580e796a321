"""Traces read back from JSON: what is none is refused in a sentence."""

import pytest

from outrider_common.errors import InvalidInputError
from outrider_common.generation_trace import GenerationTrace, PassTrace, trace_from_json


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "a.json holds no trace of a generation"),
        ({}, "target: Field required"),
        ({"version": 99}, "a.json has version 99 .* reads version 1; record it again"),
        (GenerationTrace("t", "d", 0.0, 0.1).as_json() | {"nodes": 3}, "nodes: "),
    ],
)
def test_what_is_no_trace_is_refused_with_the_file_and_the_place(
    document: object, words: str
) -> None:
    with pytest.raises(InvalidInputError, match=words) as error:
        trace_from_json(document, "a.json")
    assert "outrider edge run --trace" in str(error.value)


def test_times_of_a_pass_are_worked_out_from_its_commit_and_never_before_the_request() -> None:
    commit = PassTrace(0.5, 1, (7,), ("x",), 0, False, pass_s=0.2, queue_s=9.0, num_rows=1)
    trace = GenerationTrace("t", "d", 0.1, 0.1, passes=(commit,))
    assert trace.pass_ended_s(commit) == pytest.approx(0.45)
    assert trace.pass_began_s(commit) == pytest.approx(0.25)
    assert trace.queue_began_s(commit) == 0
    assert trace.ended_at_s == 0.5
