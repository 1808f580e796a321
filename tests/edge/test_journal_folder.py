"""The journal's directory: bounds, privacy, and one process at a time."""

import stat
from pathlib import Path

import pytest

from outrider_edge.journal.folder import Bounds, FullError, JournalFolder
from outrider_edge.journal.storage import DiskStorage

BOUNDS = Bounds(max_answers=3, max_bytes=100, max_age_s=60)
NAMES = ("aa", "bb", "cc", "dd")


class Clock:
    def __init__(self) -> None:
        self.now_s = 1e9

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


def a_folder(path: Path, clock: Clock | None = None) -> JournalFolder:
    return JournalFolder(DiskStorage(path / "journal"), BOUNDS, clock or Clock())


def kept(folder: JournalFolder) -> list[str]:
    return [name for name in NAMES if folder.read(name) is not None]


def test_what_was_kept_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.begin("aa", b"one\n")
    folder.append("aa", b"two\n", is_last=True)
    folder.close()
    folder = JournalFolder(DiskStorage(tmp_path / "journal"), BOUNDS)
    assert folder.read("aa") == b"one\ntwo\n"
    assert folder.read("bb") is None


def test_only_this_user_can_read_it(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.begin("aa", b"one\n")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"journal": 0o700, "aa.answer": 0o600, "lock": 0o600}


def test_an_answer_that_begins_anew_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.begin("aa", b"a long one\n")
    folder.begin("aa", b"new\n")
    assert folder.read("aa") == b"new\n"


def test_a_file_is_gone_on_with_from_where_it_is_good(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.begin("aa", b"good\nbad")
    folder.cut("aa", 5)
    folder.append("aa", b"more\n")
    assert folder.read("aa") == b"good\nmore\n"


def test_of_too_many_the_oldest_goes(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for name in NAMES:
        folder.begin(name, b"x")
        folder.leave(name)
    assert kept(folder) == ["bb", "cc", "dd"]


def test_of_too_much_what_was_written_to_longest_ago_goes(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for name in NAMES[:3]:
        folder.begin(name, b"x" * 30)
    folder.append("aa", b"x")
    for name in NAMES[:3]:
        folder.leave(name)
    folder.append("cc", b"x" * 30)
    assert kept(folder) == ["aa", "cc"]


def test_what_is_in_use_stays_and_there_is_no_room_for_more(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for name in NAMES[:3]:
        folder.begin(name, b"x" * 30)
    with pytest.raises(FullError):
        folder.append("aa", b"x" * 30)
    assert kept(folder) == ["aa", "bb", "cc"]
    with pytest.raises(FullError):
        folder.begin("dd", b"x")


def test_what_is_too_old_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    folder = a_folder(tmp_path, clock)
    folder.begin("aa", b"x")
    folder.leave("aa")
    folder.begin("bb", b"x")
    clock.now_s += 100
    folder.tidy()
    assert kept(folder) == ["bb"]  # it is in use
    folder.leave("bb")
    clock.now_s += 100
    assert folder.read("bb") is None
    assert not list((tmp_path / "journal").glob("*.answer"))


def test_what_was_left_by_an_earlier_process_is_bounded_too(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    directory.mkdir()
    for name in NAMES:
        (directory / f"{name}.answer").write_bytes(b"x" * 40)
    folder = JournalFolder(DiskStorage(directory), BOUNDS)
    assert len(kept(folder)) == 2


def test_an_answer_that_is_removed_is_gone(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    folder.begin("aa", b"x")
    folder.remove("aa")
    assert folder.read("aa") is None
    assert not list((tmp_path / "journal").glob("*.answer"))


def test_one_process_at_a_time_has_it(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    with pytest.raises(BlockingIOError):
        a_folder(tmp_path)
    folder.close()
    a_folder(tmp_path).close()


def test_nothing_of_a_key_is_in_the_name_of_its_file() -> None:
    assert JournalFolder.name_of("../../etc/passwd").isalnum()
    assert JournalFolder.name_of("a") != JournalFolder.name_of("b")
