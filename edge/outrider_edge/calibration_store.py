"""Calibrations on disk: one small JSON file for each pair of target and drafter.

A file that cannot be read is never an error: calibration starts anew, and a warning says so. Knows
nothing of what is in a calibration.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from outrider_common import log
from outrider_common.atomic_file import replace_file
from outrider_edge.calibration import Calibration

_logger = logging.getLogger(__name__)

SAVED_EVERY_S: Final = 60.0
"""A process that is killed forgets no more than this."""

_MAX_FILE_BYTES = 1 << 20
_MAX_NAME_CHARACTERS = 80


class CalibrationStore:
    """Reads and writes calibrations in one directory, shared by any number of processes.

    Of two that write at once, the last one stays; no reader sees a part of a file.

    Args:
        directory: where the files are; made when something is first saved.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path_of(self, target: str, bundle: str) -> Path:
        """The file of a pair. Names come from the verifier, too, so they are made harmless."""
        digest = hashlib.sha256(f"{target}\0{bundle}".encode()).hexdigest()[:12]
        readable = re.sub(r"[^A-Za-z0-9]+", "-", f"{target}--{bundle}")[:_MAX_NAME_CHARACTERS]
        return self._directory / f"{readable.strip('-')}-{digest}.json"

    def load(self, target: str, bundle: str) -> Calibration:
        """What was learned of a pair; a fresh calibration where there is nothing to read."""
        path = self.path_of(target, bundle)
        try:
            return Calibration.from_json(_read(path))
        except FileNotFoundError:
            return Calibration()
        except (OSError, ValueError) as error:
            _warn("calibration_unreadable", path, error)
            return Calibration()

    def save(self, target: str, bundle: str, calibration: Calibration) -> None:
        """Keep what was learned. Where that cannot be, it is lost, and a warning says so."""
        path = self.path_of(target, bundle)
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            replace_file(path, calibration.to_json())
        except OSError as error:
            _warn("calibration_unwritable", path, error)


class KeptCalibrations:
    """What was learnt of one drafter with each target.

    Args:
        store: where it is kept; None keeps nothing.
        bundle: the drafter's name.
    """

    def __init__(self, store: CalibrationStore | None, bundle: str) -> None:
        self._store = store
        self._bundle = bundle
        self._of: dict[str, Calibration] = {}
        self._kept: dict[str, str] = {}  # as JSON

    def of(self, target: str) -> Calibration:
        """What was learnt with a target; it goes on learning."""
        if target not in self._of:
            calibration = self._store.load(target, self._bundle) if self._store else Calibration()
            self._of[target] = calibration
            self._kept[target] = calibration.to_json()
        return self._of[target]

    def keep(self) -> None:
        """Write down what is new."""
        for target, calibration in self._of.items():
            learnt = calibration.to_json()
            if self._store and learnt != self._kept[target]:
                self._store.save(target, self._bundle, calibration)
                self._kept[target] = learnt


@contextlib.asynccontextmanager
async def kept(
    store: CalibrationStore | None, bundle: str, every_s: float = SAVED_EVERY_S
) -> AsyncIterator[KeptCalibrations]:
    """What was learnt of a drafter; kept now and then, and in the end, whatever that is."""
    calibrations = KeptCalibrations(store, bundle)

    async def keep_now_and_then() -> None:
        while True:
            await asyncio.sleep(every_s)
            calibrations.keep()

    keeping = asyncio.create_task(keep_now_and_then(), name="calibration")
    try:
        yield calibrations
    finally:
        keeping.cancel()
        calibrations.keep()


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"larger than {_MAX_FILE_BYTES} bytes")
    return path.read_text(encoding="utf-8")


def _warn(event: str, path: Path, error: Exception) -> None:
    log.event(_logger, event, level=logging.WARNING, path=path, reason=str(error))
