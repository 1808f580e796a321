"""What the journal keeps: one file for each answer, bounded in number, size and age.

It may wait for the disk: call it from one thread. Knows nothing of what is in the files.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from outrider_edge.journal.storage import Storage


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept.

    Attributes:
        max_answers: files at most.
        max_bytes: of all files together.
        max_age_s: a file that was not written to for so long is forgotten.
    """

    max_answers: int
    max_bytes: int
    max_age_s: float


@dataclass(frozen=True, slots=True)
class _File:
    num_bytes: int
    written_at: float


class FullError(OSError):
    """There is no room for more, for all there is room for is in use."""


class JournalFolder:
    """Files of answers.

    Args:
        storage: where they are.
        bounds: how much is kept; what was written to longest ago goes first.
        clock: seconds since 1970.

    Raises:
        OSError: what is there cannot be read.
    """

    def __init__(
        self, storage: Storage, bounds: Bounds, clock: Callable[[], float] = time.time
    ) -> None:
        self._storage = storage
        self._bounds = bounds
        self._clock = clock
        self._in_use: set[str] = set()
        try:
            found = list(storage.found())
        except BaseException:
            storage.close()
            raise
        self._files = {one.name: _File(one.num_bytes, one.written_at) for one in found}
        self.tidy()

    def close(self) -> None:
        """Let another process have it."""
        self._storage.close()

    @staticmethod
    def name_of(key: str) -> str:
        """The name of a key's file; keys come from clients, so nothing of them is in it."""
        return hashlib.sha256(key.encode()).hexdigest()[:40]

    def read(self, name: str) -> bytes | None:
        """What was kept under a name; None if nothing was, or it is too old."""
        self._forget_old()
        return self._storage.read(name) if name in self._files else None

    def begin(self, name: str, content: bytes) -> None:
        """Keep an answer that begins, in place of what there was; it is in use until `leave`."""
        self.cut(name, 0)
        self.append(name, content)

    def cut(self, name: str, num_bytes: int) -> None:
        """Go on with a file from there on; it is in use until `leave`."""
        self._in_use.add(name)
        self._storage.cut(name, num_bytes)
        self._files[name] = _File(num_bytes, self._clock())

    def append(self, name: str, content: bytes, *, is_last: bool = False) -> None:
        """Add to a file; the last of it is on the disk when this returns.

        Raises:
            FullError: there is no room for it.
            OSError: it cannot be written.
        """
        if not self._has_room(len(content)):
            raise FullError("all that there is room for is in use")
        self._storage.append(name, content, is_last=is_last)
        self._files[name] = _File(self._files[name].num_bytes + len(content), self._clock())

    def leave(self, name: str) -> None:
        """Nothing is added to a file any more; it may be thrown away for others."""
        self._in_use.discard(name)
        self._has_room(0)

    def remove(self, name: str) -> None:
        """Forget an answer."""
        self._in_use.discard(name)
        self._remove(name)

    def tidy(self) -> None:
        """Throw away what is too old, or too much."""
        self._forget_old()
        self._has_room(0)

    def _idle(self) -> list[str]:
        """Those not in use; what was written to longest ago comes first."""
        names = (name for name in self._files if name not in self._in_use)
        return sorted(names, key=lambda name: self._files[name].written_at)

    def _forget_old(self) -> None:
        oldest = self._clock() - self._bounds.max_age_s
        for name in self._idle():
            if self._files[name].written_at < oldest:
                self._remove(name)

    def _has_room(self, num_bytes: int) -> bool:
        """Throw away what is too much once so many bytes are added; whether there is room then."""
        idle = self._idle()
        while self._is_too_much(num_bytes):
            if not idle:
                return False
            self._remove(idle.pop(0))
        return True

    def _is_too_much(self, num_bytes: int) -> bool:
        num_all = sum(file.num_bytes for file in self._files.values())
        is_many = len(self._files) > self._bounds.max_answers
        return is_many or num_all + num_bytes > self._bounds.max_bytes

    def _remove(self, name: str) -> None:
        self._files.pop(name, None)
        self._storage.remove(name)
