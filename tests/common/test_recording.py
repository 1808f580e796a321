"""Recordings of a target: written, read, and refused where they are none."""

import json
from pathlib import Path

import pytest

from outrider_common.errors import ConfigError
from outrider_common.recording import RecordedText, Recording

RECORDING = Recording(
    model="a-model",
    tokenizer="v1:" + "0" * 64,
    vocab_size=100,
    max_positions=64,
    eos_token_ids=(2, 3),
    c0_s=0.02,
    c1_s=0.001,
    texts=(RecordedText((1, 5), (6, 7, 2)), RecordedText((9,), ())),
)


def test_a_recording_is_read_as_it_was_written(tmp_path: Path) -> None:
    RECORDING.write(tmp_path / "heard.json")
    assert Recording.named(f"recorded:{tmp_path / 'heard.json'}") == RECORDING


@pytest.mark.parametrize(
    ("name", "is_meant"),
    [("recorded:a.json", True), ("recorded", True), ("smollm2-135m", False), ("synthetic:", False)],
)
def test_what_is_meant_by_a_name(name: str, is_meant: bool) -> None:
    assert Recording.is_meant_by(name) is is_meant


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'/nowhere/x\.json' cannot be read .*bench record"):
        Recording.named("recorded:/nowhere/x.json")


@pytest.mark.parametrize(
    "change",
    [{"format": "outrider-recording-0"}, {"texts": [{"prompt": [1]}]}, {"eos_token_ids": 2}],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "heard.json"
    RECORDING.write(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError, match="is no recording of this release"):
        Recording.named(f"recorded:{path}")


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", '"text"'])
def test_what_is_no_recording_at_all_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "heard.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="write one with 'outrider bench record'"):
        Recording.named(f"recorded:{path}")


def test_a_pass_takes_c0_and_c1_for_every_row() -> None:
    assert RECORDING.pass_s(5) == pytest.approx(0.025)
