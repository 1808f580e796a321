"""What verifiers said of their models, on disk: so that a daemon can begin while none is there.

A file that cannot be read or written is never an error: nothing is known then, and a warning says
so. Knows nothing of the network.
"""

import logging
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from outrider_common import log
from outrider_common.atomic_file import replace_file
from outrider_common.messages import ModelInfo

_logger = logging.getLogger(__name__)

_MODELS: Final = TypeAdapter(dict[str, ModelInfo])


class KnownModels:
    """The models that were met at an address, by the name of each address.

    Args:
        file: where they are kept; made when something is first known.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def at(self, address: str) -> ModelInfo | None:
        """What was said there last; None: nothing is known."""
        return self._read().get(address)

    def keep(self, address: str, info: ModelInfo) -> None:
        """Remember what is said there."""
        known = self._read()
        if known.get(address) == info:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self._file, _MODELS.dump_json(known | {address: info}).decode())
        except OSError as error:
            self._warn("known_models_unwritable", error)

    def _read(self) -> dict[str, ModelInfo]:
        try:
            return _MODELS.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            self._warn("known_models_unreadable", error)
            return {}

    def _warn(self, event: str, error: Exception) -> None:
        log.event(
            _logger, event, level=logging.WARNING, path=self._file, reason=type(error).__name__
        )
