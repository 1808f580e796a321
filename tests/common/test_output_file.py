"""Files that are tried before a command begins."""

from pathlib import Path

import pytest

from outrider_common.errors import InvalidInputError
from outrider_common.output_file import require_writable


def test_a_file_that_can_be_written_is_not_made_and_one_that_is_there_is_left_alone(
    tmp_path: Path,
) -> None:
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.write_text("what was there")
    for path in (new, old):
        require_writable(path, "--trace")
    assert not new.exists()
    assert old.read_text() == "what was there"


@pytest.mark.parametrize("name", ["missing/a.json", ".", "file/a.json"])
def test_one_that_cannot_is_refused_with_its_name_and_the_option(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(InvalidInputError, match="cannot be written") as error:
        require_writable(path, "--trace")
    assert str(path) in str(error.value)
    assert "--trace" in str(error.value)
