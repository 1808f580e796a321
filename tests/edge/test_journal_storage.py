"""Where answers are: the same on disk and in memory, but for what outlives the process."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.journal.folder import Bounds, JournalFolder
from outrider_edge.journal.storage import DiskStorage, MemoryStorage, Storage

Make = Callable[[Path], Storage]
BOTH = pytest.mark.parametrize("make", [DiskStorage, lambda _path: MemoryStorage()])


@BOTH
def test_what_is_added_is_read_and_what_is_cut_is_gone(make: Make, tmp_path: Path) -> None:
    storage = make(tmp_path / "journal")
    storage.cut("aa", 0)
    storage.append("aa", b"one", is_last=False)
    storage.append("aa", b"two", is_last=True)
    assert storage.read("aa") == b"onetwo"
    storage.cut("aa", 4)
    storage.append("aa", b"x", is_last=False)
    assert storage.read("aa") == b"onetx"


@BOTH
def test_what_is_removed_twice_is_removed(make: Make, tmp_path: Path) -> None:
    storage = make(tmp_path / "journal")
    storage.cut("aa", 0)
    storage.remove("aa")
    storage.remove("aa")
    storage.cut("aa", 0)
    assert storage.read("aa") == b""


@BOTH
def test_bounds_hold_wherever_answers_are(make: Make, tmp_path: Path) -> None:
    folder = JournalFolder(make(tmp_path / "journal"), Bounds(2, 100, 60))
    for name in ("aa", "bb", "cc"):
        folder.begin(name, b"content")
        folder.leave(name)
    assert [folder.read(name) for name in ("aa", "bb", "cc")] == [None, b"content", b"content"]


def test_only_what_is_on_disk_is_found_by_the_next_process(tmp_path: Path) -> None:
    storage = DiskStorage(tmp_path / "journal")
    storage.cut("aa", 0)
    storage.append("aa", b"one", is_last=True)
    storage.close()
    (found,) = DiskStorage(tmp_path / "journal").found()
    assert (found.name, found.num_bytes) == ("aa", 3)
    assert list(MemoryStorage().found()) == []


def test_one_process_at_a_time_has_the_directory(tmp_path: Path) -> None:
    first = DiskStorage(tmp_path / "journal")
    with pytest.raises(BlockingIOError):
        DiskStorage(tmp_path / "journal")
    first.close()
    DiskStorage(tmp_path / "journal").close()


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.one_of(st.integers(0, 6), st.binary(max_size=4))),
        max_size=12,
    )
)
def test_memory_and_disk_never_differ(
    tmp_path_factory: pytest.TempPathFactory, deeds: list[tuple[str, int | bytes]]
) -> None:
    disk, memory = DiskStorage(tmp_path_factory.mktemp("journal")), MemoryStorage()
    lengths: dict[str, int] = {}
    for name, deed in deeds:
        for storage in (disk, memory):
            if isinstance(deed, bytes) and name in lengths:
                storage.append(name, deed, is_last=False)
            elif isinstance(deed, int):
                storage.cut(name, min(deed, lengths.get(name, 0)))
        if isinstance(deed, int):
            lengths[name] = min(deed, lengths.get(name, 0))
        elif name in lengths:
            lengths[name] += len(deed)
        assert all(disk.read(one) == memory.read(one) for one in lengths)
    disk.close()
