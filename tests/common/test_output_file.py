"""Files that are tried before a command begins."""

import errno
from pathlib import Path

import pytest

from outrider_common.errors import InvalidInputError, UnavailableError
from outrider_common.output_file import require_writable, write_output


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


def test_a_result_is_written_and_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_output(tmp_path / "a.json", "ä")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "ä"

    def full(*args: object, **kwargs: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UnavailableError, match=r"a\.json could not be written \(No space left"):
        write_output(tmp_path / "a.json", "again")
