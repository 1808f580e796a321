"""What verifiers said of their models outlives the process, whatever is in the file."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from fake_link import an_info

from outrider_edge.known_models import KnownModels

HERE, THERE = "here:7411", "there:7411"


def test_what_was_said_at_each_address_is_known_again(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_models.json"
    other = replace(an_info(), model="other", eos_token_ids=(3, 4))
    KnownModels(file).keep(HERE, an_info())
    KnownModels(file).keep(THERE, other)
    assert KnownModels(file).at(HERE) == an_info()
    assert KnownModels(file).at(THERE) == other
    assert KnownModels(file).at("elsewhere:7411") is None


def test_the_last_word_counts(tmp_path: Path) -> None:
    known = KnownModels(tmp_path / "known_models.json")
    known.keep(HERE, an_info())
    known.keep(HERE, replace(an_info(), max_positions=9))
    assert known.at(HERE) == replace(an_info(), max_positions=9)


@pytest.mark.parametrize("content", ["", "{", '{"here:7411": {"model": 7}}', "[1]"])
def test_a_damaged_file_knows_nothing_and_is_written_anew(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "known_models.json"
    file.write_text(content)
    known = KnownModels(file)
    with caplog.at_level(logging.WARNING):
        assert known.at(HERE) is None
    assert caplog.records[0].getMessage() == "known_models_unreadable"
    known.keep(HERE, an_info())
    assert known.at(HERE) == an_info()


def test_where_nothing_can_be_written_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("not a directory")
    with caplog.at_level(logging.WARNING):
        KnownModels(tmp_path / "state" / "known_models.json").keep(HERE, an_info())
    assert caplog.records[-1].getMessage() == "known_models_unwritable"
