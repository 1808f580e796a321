"""What was typed in earlier chats."""

import json
from pathlib import Path

import pytest

from outrider_edge.chat.history import MOST_ENTRIES, PrivateHistory


def entries(file: Path) -> list[str]:
    return list(PrivateHistory(file).load_history_strings())


def test_entries_come_back_the_latest_first_line_breaks_and_all(tmp_path: Path) -> None:
    file = tmp_path / "chat" / "history.jsonl"
    for entry in ("one", "two\nlines", "drei ü"):
        PrivateHistory(file).store_string(entry)
    assert entries(file) == ["drei ü", "two\nlines", "one"]


def test_only_the_owner_can_read_it_even_if_others_could(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.touch(0o644)
    PrivateHistory(file).store_string("secret")
    assert file.stat().st_mode & 0o777 == 0o600


def test_it_does_not_grow_without_end(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text("".join(f"{json.dumps(str(i))}\n" for i in range(MOST_ENTRIES + 5)))
    assert len(entries(file)) == MOST_ENTRIES
    assert len(file.read_text().splitlines()) == MOST_ENTRIES
    assert entries(file)[0] == str(MOST_ENTRIES + 4)


def test_damaged_entries_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_bytes(b'"good"\n{broken\n17\n\xff\xfe\n"too"\n')
    assert entries(file) == ["too", "good"]


def test_a_place_that_cannot_be_used_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file" / "history.jsonl"
    file.parent.touch()  # not a directory
    history = PrivateHistory(file)
    assert list(history.load_history_strings()) == []
    history.store_string("lost")
    assert {record.message for record in caplog.records} == {"chat_history_unusable"}
