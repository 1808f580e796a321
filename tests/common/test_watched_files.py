"""Values that follow their files: read again when these change, kept when they are no good."""

import logging
import os
from pathlib import Path

import pytest

from outrider_common.errors import ConfigError
from outrider_common.watched_files import LOOK_EVERY_S, WatchedValue


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def pass_by(self) -> None:
        self.now += LOOK_EVERY_S


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "value"
    file.write_text("one")
    return file


def watched(path: Path, clock: Clock) -> WatchedValue[str]:
    def load() -> str:
        text = path.read_text()
        if text == "bad":
            raise ConfigError(f"{path} is bad.")
        return text

    return WatchedValue([path], load, clock)


def test_a_file_that_has_changed_is_read_again_once(path: Path) -> None:
    clock = Clock()
    value = watched(path, clock)
    clock.pass_by()
    assert not value.refresh()
    path.write_text("three")
    clock.pass_by()
    assert value.refresh()
    assert value.value == "three"
    clock.pass_by()
    assert not value.refresh()


def test_a_file_is_not_looked_at_all_the_time(path: Path) -> None:
    value = watched(path, Clock())
    path.write_text("three")
    assert not value.refresh()
    assert value.value == "one"


def test_a_file_that_is_no_good_changes_nothing_and_is_logged_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    value = watched(path, clock)
    path.write_text("bad")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.pass_by()
            assert not value.refresh()
    assert value.value == "one"
    assert [record.message for record in caplog.records] == ["files_not_reloaded"]
    path.write_text("good again")
    clock.pass_by()
    assert value.refresh()
    assert value.value == "good again"


def test_a_link_that_leads_elsewhere_is_a_change(path: Path, tmp_path: Path) -> None:
    """As Kubernetes does it with mounted secrets."""
    link, other = tmp_path / "link", tmp_path / "other"
    other.write_text("two")
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))  # same size, same time
    link.symlink_to(path)
    clock = Clock()
    value = watched(link, clock)
    link.unlink()
    link.symlink_to(other)
    clock.pass_by()
    assert value.refresh()
    assert value.value == "two"


def test_a_file_that_is_no_good_at_first_is_an_error(path: Path) -> None:
    path.write_text("bad")
    with pytest.raises(ConfigError, match="is bad"):
        watched(path, Clock())
