"""Calibrations on disk: one small JSON file for each pair of target and drafter.

A file that cannot be read is never an error: calibration starts anew, and a warning says so. Knows
nothing of what is in a calibration.
"""

import hashlib
import logging
import os
import re
import tempfile
from pathlib import Path

from outrider_common import log
from outrider_edge.calibration import Calibration

_logger = logging.getLogger(__name__)

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
            _replace(path, calibration.to_json())
        except OSError as error:
            _warn("calibration_unwritable", path, error)


def _read(path: Path) -> str:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"larger than {_MAX_FILE_BYTES} bytes")
    return path.read_text(encoding="utf-8")


def _replace(path: Path, text: str) -> None:
    """Write beside the place, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    incoming = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        incoming.replace(path)
    except BaseException:
        incoming.unlink(missing_ok=True)
        raise


def _warn(event: str, path: Path, error: Exception) -> None:
    log.event(_logger, event, level=logging.WARNING, path=path, reason=str(error))
