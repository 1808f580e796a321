"""What a device remembers of its fleet, in small JSON files: it holds when the daemon starts again.

A file that cannot be read is never an error: it is forgotten, and a warning says so.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from outrider_common import log
from outrider_common.atomic_file import replace_file
from outrider_common.config import Settings
from outrider_common.errors import OutriderError
from outrider_edge.fleet.rollout import Rollout
from outrider_edge.overlay import Overlay
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AppliedSettings:
    """The settings of the fleet that are in force.

    Attributes:
        revision: 0 if there were none yet.
        values: by full name, as text.
    """

    revision: int = 0
    values: Mapping[str, str] = field(default_factory=dict)


_SETTINGS: Final = TypeAdapter(AppliedSettings)
_ROLLOUT: Final = TypeAdapter(Rollout)


class FleetMemory:
    """Reads and writes what is remembered.

    Args:
        directory: where the files are; made when something is first kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def settings(self) -> AppliedSettings:
        """The settings that were applied last."""
        return self._read("settings.json", _SETTINGS) or AppliedSettings()

    def keep_settings(self, settings: AppliedSettings) -> None:
        """Remember settings that were applied."""
        self._write("settings.json", {**asdict(settings), "values": dict(settings.values)})

    def rollout(self) -> Rollout | None:
        """The latest rollout, if there was one."""
        return self._read("rollout.json", _ROLLOUT)

    def keep_rollout(self, rollout: Rollout) -> None:
        """Remember how far a rollout is."""
        self._write("rollout.json", asdict(rollout))

    def overlay(self) -> Overlay:
        """What the fleet lays over the device's own settings."""
        return overlay_of(self.settings(), self.rollout())

    def _read(self, name: str, adapter: "TypeAdapter[_T]") -> _T | None:
        path = self._directory / name
        try:
            return adapter.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            _warn("fleet_memory_unreadable", path, error)
            return None

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        path = self._directory / name
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            replace_file(path, json.dumps(document, indent=2) + "\n")
        except OSError as error:
            _warn("fleet_memory_unwritable", path, error)


def overlay_of(settings: AppliedSettings, rollout: Rollout | None) -> Overlay:
    """What applied settings and a rollout lay over the device's own settings."""
    if rollout is None:
        return Overlay(settings.values)
    return Overlay(settings.values, rollout.bundle_in_use, rollout.own)


def overlay_at_start(settings: Settings, store: ModelStore) -> Overlay:
    """What the fleet has left for a daemon that starts now.

    Where that cannot be used any more, the device's own settings hold.
    """
    if settings.fleet.broker is None:
        return Overlay()
    memory = FleetMemory(store.root / "fleet")
    rollout = memory.rollout()
    if rollout and (restarted := rollout.restarted()) != rollout:
        memory.keep_rollout(restarted)
    return _usable(memory.overlay(), settings, store)


def _usable(overlay: Overlay, settings: Settings, store: ModelStore) -> Overlay:
    """What can be used of an overlay."""
    try:
        overlay.on(settings)
    except OutriderError as error:
        _give_up("settings", error)
        overlay = replace(overlay, values={})
    bundle = overlay.on(settings).edge.bundle
    if bundle != settings.edge.bundle:
        try:
            Bundle.load(store.resolve_bundle(bundle))
        except OutriderError as error:
            _give_up("drafter", error)
            overlay = replace(overlay, bundle=None)
    return overlay


def _give_up(what: str, error: OutriderError) -> None:
    log.event(_logger, "fleet_memory_unusable", level=logging.ERROR, what=what, reason=str(error))


def _warn(event: str, path: Path, error: Exception) -> None:
    log.event(_logger, event, level=logging.WARNING, path=path, reason=str(error))
