"""The settings of a running daemon: they change whole or not at all.

What can be changed while it runs is changed at once, what cannot is named. Knows nothing of who
wants a change: SIGHUP and the fleet come here.
"""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from outrider_common import log
from outrider_common.config import Settings
from outrider_edge.overlay import Overlay
from outrider_edge.runtime_keeper import Proof, RuntimeKeeper
from outrider_edge.serving import Serving

_AT_RUN_TIME: Final = frozenset(
    {"daemon.max_concurrent_requests", "daemon.max_body_bytes", "daemon.client_timeout_s"}
)
_SECTIONS_AT_RUN_TIME: Final = frozenset({"edge", "sampling", "log"})
_OTHER_ROLES: Final = frozenset({"verifier"})


@dataclass(frozen=True, slots=True)
class Change:
    """What became of new settings.

    Attributes:
        applied: names of the settings that have changed.
        restart_needed: names of those that differ from what the daemon was started with, and will
            change when it is started anew.
    """

    applied: tuple[str, ...]
    restart_needed: tuple[str, ...]


class LiveSettings:
    """Puts settings in force, one change after the other.

    Args:
        own: the device's own settings, with which the daemon was started.
        overlay: what was laid over them.
        serving: the state of the daemon.
        keeper: of its runtime.
    """

    def __init__(
        self, own: Settings, overlay: Overlay, serving: Serving, keeper: RuntimeKeeper
    ) -> None:
        self._own = own
        self._overlay = overlay
        self._started = self._wanted = overlay.on(own)
        self._serving = serving
        self._keeper = keeper
        self._lock = asyncio.Lock()

    @property
    def own(self) -> Settings:
        """The device's own settings."""
        return self._own

    @property
    def overlay(self) -> Overlay:
        """What is laid over them."""
        return self._overlay

    @property
    def restart_needed(self) -> tuple[str, ...]:
        """Names of settings that have changed and wait for a start."""
        names = _differences(self._started, self._wanted)
        return tuple(name for name in names if not _can_change(name))

    async def reload(self, own: Settings) -> Change:
        """Put other settings of the device's own in force.

        Raises:
            OutriderError: they cannot be; nothing has changed.
        """
        async with self._lock:
            return await self._change(own, self._overlay)

    async def lay_over(
        self, change: Callable[[Overlay], Overlay], proof: Proof | None = None
    ) -> Change:
        """Put what the fleet wants in force.

        Args:
            change: from what is laid over now to what shall be.
            proof: what a new runtime must be able to do first.

        Raises:
            OutriderError: it cannot be; nothing has changed.
        """
        async with self._lock:
            return await self._change(self._own, change(self._overlay), proof)

    async def settled(self) -> None:
        """Wait until all answers are written with the settings in force."""
        await self._keeper.settled()

    async def _change(self, own: Settings, overlay: Overlay, proof: Proof | None = None) -> Change:
        wanted = overlay.on(own)
        names = _differences(self._wanted, wanted)
        if wanted.edge != self._wanted.edge:
            await self._keeper.replace(wanted.edge, proof)
        # From here on nothing can fail, and nothing waits.
        if wanted.log != self._wanted.log:
            log.configure(wanted.log.level, wanted.log.format)
        self._serving.sampling = wanted.sampling
        self._serving.adapt(wanted.daemon.model_copy(update=self._kept_from_start()))
        self._own, self._overlay, self._wanted = own, overlay, wanted
        return Change(tuple(name for name in names if _can_change(name)), self.restart_needed)

    def _kept_from_start(self) -> dict[str, object]:
        """What the daemon's sockets and its HTTP server were made with."""
        started = self._started.daemon
        return {
            name: getattr(started, name)
            for name in type(started).model_fields
            if not _can_change(f"daemon.{name}")
        }


def _can_change(name: str) -> bool:
    return name.partition(".")[0] in _SECTIONS_AT_RUN_TIME or name in _AT_RUN_TIME


def _differences(one: Settings, other: Settings) -> tuple[str, ...]:
    """Names of the settings of this role that differ."""
    return tuple(_names_of_differences(one, other))


def _names_of_differences(one: Settings, other: Settings) -> Iterator[str]:
    for section, values in one:
        if section in _OTHER_ROLES:
            continue
        theirs = getattr(other, section)
        for name in type(values).model_fields:
            if getattr(values, name) != getattr(theirs, name):
                yield f"{section}.{name}"
