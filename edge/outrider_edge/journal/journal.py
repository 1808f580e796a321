"""The journal as the event loop sees it: what is kept goes to the disk in a thread, in order.

What is added reaches the file within 50 ms, and the disk when the answer is complete. Where it
cannot be kept, the answer goes on without it, and a warning says so.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from outrider_common import log
from outrider_edge.choice_stream import Event
from outrider_edge.journal.folder import Bounds, JournalFolder
from outrider_edge.journal.kept_answer import (
    Heading,
    KeptAnswer,
    Spelling,
    event_json,
    heading_json,
    read_answer,
)
from outrider_edge.journal.lines import encode_line
from outrider_edge.journal.storage import DiskStorage, MemoryStorage

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

WRITTEN_EVERY_S: Final = 0.05
"""A daemon that is killed loses no more than this, and writes it again."""

TIDIED_EVERY_S: Final = 60.0
"""How often what is too old is thrown away, where nobody asks."""


@dataclass(slots=True)
class Pen:
    """Adds to what is kept of one answer, and at last lays it down. Never waits.

    Attributes:
        name: of the file.
        write: takes lines for it, and whether they are the last ones.
    """

    name: str
    write: "Callable[[Pen, bytes], None]"
    is_dry: bool = field(init=False, default=False)  # it could not be kept; set by the thread
    is_complete: bool = field(init=False, default=False)
    is_down: bool = field(init=False, default=False)
    is_void: bool = field(init=False, default=False)

    def add(self, events: Iterable[Event | Spelling]) -> None:
        """Keep what has happened."""
        if not self.is_dry:
            documents = filter(None, map(event_json, events))
            self.write(self, b"".join(map(encode_line, documents)))

    def lay_down(self, *, is_complete: bool, is_void: bool) -> None:
        """Nothing follows, at least for now; what is void is forgotten."""
        self.is_complete, self.is_void, self.is_down = is_complete, is_void, True
        self.write(self, b"")


class Journal:
    """Answers that are kept, by the key that a client gave them.

    Args:
        directory: where they are; None: in the memory of this process only.
        bounds: how much is kept.
    """

    def __init__(self, directory: Path | None, bounds: Bounds) -> None:
        self._directory = directory
        self._bounds = bounds
        self._folder: JournalFolder | None = None
        self._is_refused = False  # and a warning has said so
        self._thread = ThreadPoolExecutor(1, "outrider-journal")  # one: things happen in order
        self._waiting: dict[str, tuple[Pen, bytearray]] = {}
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Write what is added, and throw away what is old, until cancelled."""
        await self._in_thread(self._require_folder)
        while True:
            try:
                async with asyncio.timeout(TIDIED_EVERY_S):
                    await self._news.wait()
            except TimeoutError:
                await self._in_thread(self._tidy)
            await asyncio.sleep(WRITTEN_EVERY_S)
            self._news.clear()
            self._hand_over()

    async def close(self) -> None:
        """Write what is left, and let another process have the directory."""
        self._hand_over()
        await self._in_thread(self._close)
        self._thread.shutdown()

    async def read(self, key: str) -> tuple[KeptAnswer | None, int]:
        """What is kept under a key, and how many bytes of its file are good."""
        self._hand_over()
        return await self._in_thread(partial(self._read, JournalFolder.name_of(key)))

    async def begin(self, key: str, heading: Heading) -> Pen:
        """Keep an answer that begins; its heading is in the file when this returns."""
        content = encode_line(heading_json(heading))
        return await self._taken_up(key, lambda folder, name: folder.begin(name, content))

    async def go_on(self, key: str, num_bytes: int) -> Pen:
        """Keep more of an answer, after what is good of its file."""
        return await self._taken_up(key, lambda folder, name: folder.cut(name, num_bytes))

    async def _taken_up(self, key: str, how: Callable[[JournalFolder, str], None]) -> Pen:
        pen = Pen(JournalFolder.name_of(key), self._write)

        def take_up() -> None:
            folder = self._require_folder()
            pen.is_dry = folder is None
            if folder:
                how(folder, pen.name)

        await self._in_thread(partial(_trying, take_up, pen))
        return pen

    def _write(self, pen: Pen, lines: bytes) -> None:
        _, waiting = self._waiting.setdefault(pen.name, (pen, bytearray()))
        waiting.extend(lines)
        self._news.set()

    def _hand_over(self) -> None:
        """Give the thread what waits."""
        batch, self._waiting = self._waiting, {}
        for pen, lines in batch.values():
            self._thread.submit(_trying, partial(self._append, pen, bytes(lines)), pen)

    async def _in_thread(self, do: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)

    # --- in the thread --------------------------------------------------------------------------

    def _require_folder(self) -> JournalFolder | None:
        """The directory; None while it cannot be used, such as when another daemon has it."""
        if self._folder is None:
            try:
                directory = self._directory
                storage = DiskStorage(directory) if directory else MemoryStorage()
                self._folder = JournalFolder(storage, self._bounds)
            except OSError as error:
                if not self._is_refused:
                    _warn("journal_unusable", error, self._directory)
                self._is_refused = True
        return self._folder

    def _read(self, name: str) -> tuple[KeptAnswer | None, int]:
        folder = self._require_folder()
        try:
            content = folder.read(name) if folder else None
        except OSError as error:
            _warn("journal_unreadable", error, name)
            content = None
        return read_answer(content) if content else (None, 0)

    def _append(self, pen: Pen, lines: bytes) -> None:
        if self._folder is None:
            return
        try:
            if lines and not pen.is_dry:
                self._folder.append(pen.name, lines, is_last=pen.is_complete)
        finally:
            if pen.is_void:
                self._folder.remove(pen.name)
            elif pen.is_down:
                self._folder.leave(pen.name)

    def _tidy(self) -> None:
        if self._folder:
            self._folder.tidy()

    def _close(self) -> None:
        if self._folder:
            self._folder.close()


def _trying(do: Callable[[], None], pen: Pen) -> None:
    """Write; where that fails, nothing more of this answer is kept."""
    try:
        do()
    except OSError as error:
        pen.is_dry = True
        _warn("journal_unwritable", error, pen.name)


def _warn(event: str, error: OSError, where: object) -> None:
    log.event(_logger, event, level=logging.WARNING, where=where, reason=str(error))
