"""What `outrider edge run` says of an answer: how drafts were judged, and whose text it is."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import InvalidInputError
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_edge.cli import edge, result_as_json, whose_text
from outrider_edge.generation import GenerationResult

LOSSY = [AcceptanceMode.TYPICAL, AcceptanceMode.RELAXED]


@pytest.mark.parametrize("mode", AcceptanceMode)
def test_the_record_says_the_mode_and_whether_it_is_lossless(mode: AcceptanceMode) -> None:
    result = GenerationResult("", FinishReason.STOP, (), GenerationStats(), mode)
    document = json.loads(result_as_json(result))
    assert document["acceptance_mode"] == mode.value
    assert document["is_lossless"] is (mode not in LOSSY)


@pytest.mark.parametrize("mode", LOSSY)
def test_a_lossy_mode_is_called_so(mode: AcceptanceMode) -> None:
    assert whose_text(mode).startswith(f"Acceptance mode '{mode.value}' is lossy")
    assert "not the target's own" in whose_text(mode)


def test_rejection_promises_the_distribution_and_no_more() -> None:
    assert "distribution" in whose_text(AcceptanceMode.REJECTION)
    assert "lossy" not in whose_text(AcceptanceMode.REJECTION)


def test_a_trace_that_cannot_be_written_is_refused_before_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "out.json"
    nobody = ["--verifier", "127.0.0.1:1", "--bundle", "no-such-bundle"]
    result = CliRunner().invoke(edge, ["run", "Hello", "--trace", str(path), *nobody])
    assert isinstance(result.exception, InvalidInputError)
    assert str(path) in str(result.exception)
    assert "--trace" in str(result.exception)
    assert result.output == ""
