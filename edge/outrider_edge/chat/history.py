"""What the user typed in earlier chats, in a file that only this user can read.

A file that cannot be used is never an error: a warning says so, and lines are remembered for this
chat alone.
"""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from prompt_toolkit.history import History

from outrider_common import log

_logger = logging.getLogger(__name__)

MOST_ENTRIES: Final = 1000
"""So many of the latest entries are kept when a chat begins."""

_OWNER_ONLY: Final = 0o600


class PrivateHistory(History):
    """One entry a line, as JSON, the oldest first.

    Args:
        file: where; made when something is first typed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def load_history_strings(self) -> Iterable[str]:
        """The entries, the latest first."""
        try:
            lines = self._file.read_text(encoding="utf-8", errors="replace").splitlines()
            if len(lines) > MOST_ENTRIES:
                lines = lines[-MOST_ENTRIES:]
                self._write("".join(f"{line}\n" for line in lines), os.O_TRUNC)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn(error)
            return []
        return [entry for line in reversed(lines) if (entry := _entry(line)) is not None]

    def store_string(self, string: str) -> None:
        """Remember one more entry."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._write(json.dumps(string) + "\n", os.O_APPEND)
        except OSError as error:
            self._warn(error)

    def _write(self, text: str, how: int) -> None:
        handle = os.open(self._file, os.O_WRONLY | os.O_CREAT | how, _OWNER_ONLY)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(handle, _OWNER_ONLY)  # it may have been there, and open to others
            file.write(text)

    def _warn(self, error: OSError) -> None:
        log.event(
            _logger,
            "chat_history_unusable",
            level=logging.WARNING,
            path=self._file,
            reason=error.strerror,
        )


def _entry(line: str) -> str | None:
    """An entry of the file; None for a damaged one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, str) else None
