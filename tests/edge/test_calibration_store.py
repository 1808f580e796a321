"""Calibrations on disk: kept for each pair, and never an error."""

import asyncio
import logging
from pathlib import Path

import pytest

from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.calibration_store import CalibrationStore, kept

KIND = GuessKind("lm", rank=0, depth=1)


def a_calibration() -> Calibration:
    calibration = Calibration()
    for _ in range(50):
        calibration.observe(KIND, 0.9, False)
    return calibration


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_what_was_learnt_of_a_pair_is_there_the_next_time(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "calibrations")
    store.save("target", "bundle", a_calibration())
    assert store.load("target", "bundle").chance(KIND, 0.9) < 0.2
    assert store.load("target", "other").chance(KIND, 0.9) > 0.8
    assert store.load("other", "bundle").chance(KIND, 0.9) > 0.8


def test_a_pair_that_was_never_seen_starts_anew_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert CalibrationStore(tmp_path / "none").load("a", "b").chance(KIND, 0.9) > 0.8
    assert events(caplog) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b'{"version": 99}', b"[" * 100_000, b" " * (2 << 20)]
)
def test_a_corrupt_file_starts_anew_with_a_warning_and_is_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    store = CalibrationStore(tmp_path)
    store.path_of("target", "bundle").write_bytes(content)
    assert store.load("target", "bundle").chance(KIND, 0.9) > 0.8
    assert events(caplog) == ["calibration_unreadable"]
    store.save("target", "bundle", a_calibration())
    assert store.load("target", "bundle").chance(KIND, 0.9) < 0.2


def test_a_directory_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    CalibrationStore(tmp_path / "file").save("target", "bundle", Calibration())
    assert events(caplog) == ["calibration_unwritable"]


def test_saving_leaves_one_file_and_no_part_of_another(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    for _ in range(3):
        store.save("target", "bundle", a_calibration())
    assert list(tmp_path.iterdir()) == [store.path_of("target", "bundle")]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CalibrationStore(tmp_path)
    store.save("target", "bundle", a_calibration())

    def fail(_self: Path, _target: Path) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Path, "replace", fail)
    store.save("target", "bundle", Calibration())
    assert list(tmp_path.iterdir()) == [store.path_of("target", "bundle")]
    assert store.load("target", "bundle").chance(KIND, 0.9) < 0.2


@pytest.mark.parametrize("name", ["../../etc/passwd", "/", "", "a" * 5000, "C:\\x\0y", "名"])
def test_no_name_leads_out_of_the_directory(tmp_path: Path, name: str) -> None:
    store = CalibrationStore(tmp_path)
    store.save(name, name, a_calibration())
    assert store.path_of(name, name).parent == tmp_path
    assert store.path_of(name, name).is_file()


def test_names_that_look_alike_have_files_of_their_own(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    pairs = [("a/b", "c"), ("a-b", "c"), ("a", "b-c"), ("a--b", "c"), ("a", "b--c")]
    assert len({store.path_of(*pair) for pair in pairs}) == len(pairs)


async def test_what_is_learnt_is_kept_before_the_end(tmp_path: Path) -> None:
    """So that a process that is killed forgets no more than its latest answers."""
    store = CalibrationStore(tmp_path)
    async with kept(store, "bundle", every_s=0.001) as calibrations:
        calibration = calibrations.of("target")
        while store.load("target", "bundle").chance(KIND, 0.9) > 0.2:
            calibration.observe(KIND, 0.9, False)
            await asyncio.sleep(0.001)


async def test_what_stays_the_same_is_not_written_again(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    async with kept(store, "bundle", every_s=0.001) as calibrations:
        calibrations.of("target")
        await asyncio.sleep(0.02)
        assert files(tmp_path) == []


async def test_without_a_store_nothing_is_kept(tmp_path: Path) -> None:
    async with kept(None, "bundle") as calibrations:
        calibrations.of("target").observe(KIND, 0.9, False)
    assert files(tmp_path) == []


async def test_each_target_has_what_was_learnt_with_it(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    async with kept(store, "bundle") as calibrations:
        assert calibrations.of("one") is calibrations.of("one")
        calibrations.of("one").observe(KIND, 0.9, False)
        calibrations.of("other")
    assert files(tmp_path) == [store.path_of("one", "bundle")]
