"""Checksums of directories."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.errors import ModelFileError
from outrider_models.checksums import (
    FileRecord,
    check_files,
    is_plain_relative,
    record_files,
    sha256_of,
)

SHA256_OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"abc")
    (tmp_path / "sub" / "b.bin").write_bytes(b"other")
    return tmp_path


def test_a_record_holds_size_and_sha256(directory: Path) -> None:
    assert sha256_of(directory / "a.bin") == SHA256_OF_ABC
    records = record_files(directory, ["sub/b.bin", "a.bin"])
    assert list(records) == ["a.bin", "sub/b.bin"]
    assert records["a.bin"] == FileRecord(3, SHA256_OF_ABC)


def test_a_whole_directory_passes(directory: Path) -> None:
    records = record_files(directory, ["a.bin", "sub/b.bin"])
    check_files(directory, records, contents=True, remedy="do something")


@pytest.mark.parametrize(
    ("contents_of_b", "complaint"),
    [(None, "missing"), (b"othe", "4 bytes instead of 5"), (b"Other", "checksum")],
)
def test_a_bad_file_is_named_with_its_fault_and_the_remedy(
    directory: Path, contents_of_b: bytes | None, complaint: str
) -> None:
    records = record_files(directory, ["a.bin", "sub/b.bin"])
    path = directory / "sub" / "b.bin"
    path.unlink()
    if contents_of_b is not None:
        path.write_bytes(contents_of_b)
    with pytest.raises(ModelFileError, match=rf"b\.bin .*{complaint}.*: fetch it again\.$"):
        check_files(directory, records, contents=True, remedy="fetch it again")


def test_the_cheap_check_does_not_read_contents(directory: Path) -> None:
    records = record_files(directory, ["a.bin"])
    (directory / "a.bin").write_bytes(b"xyz")
    check_files(directory, records, contents=False, remedy="")


@pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "sub/../../a.bin", ""])
def test_a_name_that_leads_outside_is_refused(directory: Path, name: str) -> None:
    assert not is_plain_relative(name)
    with pytest.raises(ModelFileError, match="outside"):
        check_files(directory, {name: FileRecord(3, SHA256_OF_ABC)}, contents=False, remedy="x")


@pytest.mark.parametrize(
    ("size", "sha256"), [(-1, SHA256_OF_ABC), (1, "abc"), (1, SHA256_OF_ABC.upper())]
)
def test_a_record_of_nonsense_cannot_be_made(size: int, sha256: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|SHA-256"):
        FileRecord(size, sha256)


@given(
    data=st.binary(min_size=1, max_size=200), position=st.integers(0, 199), flip=st.integers(1, 255)
)
def test_any_changed_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, position: int, flip: int
) -> None:
    directory = tmp_path_factory.mktemp("files")
    (directory / "x").write_bytes(data)
    records = record_files(directory, ["x"])
    changed = bytearray(data)
    changed[position % len(data)] ^= flip
    (directory / "x").write_bytes(changed)
    with pytest.raises(ModelFileError, match="checksum"):
        check_files(directory, records, contents=True, remedy="x")
