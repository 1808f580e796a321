"""A value that is read from files, and read again when they have changed.

What cannot be used is logged once, and the value stays what it was. Knows nothing of what the
files hold.
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from outrider_common import log
from outrider_common.errors import OutriderError

_logger = logging.getLogger(__name__)

LOOK_EVERY_S: Final = 1.0
"""The files are looked at no more often than this."""

_Value = TypeVar("_Value")

_Signature = tuple[tuple[int, int, int] | None, ...]


class WatchedValue(Generic[_Value]):
    """What some files say.

    Args:
        paths: the files. Where one is a link, what it leads to counts.
        load: reads them.
        clock: seconds, monotonic.

    Attributes:
        value: what was read last.

    Raises:
        OutriderError: they cannot be used; later, that is only logged.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[], _Value],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._paths = tuple(paths)
        self._load = load
        self._clock = clock
        self._looked_at = clock()
        self._seen = self._signature()
        self.value = load()

    def refresh(self) -> bool:
        """Read the files again if they have changed; whether there is a new value."""
        now = self._clock()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self._looked_at = now
        signature = self._signature()
        if signature == self._seen:
            return False
        self._seen = signature
        return self._reload()

    def _reload(self) -> bool:
        names = ", ".join(map(str, self._paths))
        try:
            self.value = self._load()
        except OutriderError as error:
            log.event(
                _logger, "files_not_reloaded", level=logging.ERROR, files=names, why=str(error)
            )
            return False
        log.event(_logger, "files_reloaded", files=names)
        return True

    def _signature(self) -> _Signature:
        return tuple(map(_signature_of, self._paths))


def _signature_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
