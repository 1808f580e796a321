"""The daemon as a service: it tells the watchdog that it lives, and reads its settings on SIGHUP.

Knows nothing of what the settings are.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from outrider_common import log
from outrider_common.config import Settings
from outrider_common.errors import OutriderError
from outrider_common.service_manager import ServiceManager
from outrider_edge.live_settings import LiveSettings

_logger = logging.getLogger(__name__)

_ALIVE_PER_WATCHDOG: Final = 3
"""So often a sign of life within the time of the watchdog."""


async def keep_alive(manager: ServiceManager) -> None:
    """Say that the event loop turns, where a watchdog wants to hear it."""
    if manager.watchdog_s is None:
        return
    while True:
        manager.alive()
        await asyncio.sleep(manager.watchdog_s / _ALIVE_PER_WATCHDOG)


@contextlib.contextmanager
def hangups() -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets, which else would end the process."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        yield asked
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def reload_when_asked(
    live: LiveSettings,
    reread: Callable[[], Settings],
    manager: ServiceManager,
    asked: asyncio.Event,
) -> None:
    """Read the settings again each time that the event is set, until cancelled."""
    while True:
        await asked.wait()
        asked.clear()  # a signal that comes from here on is another one
        manager.reloading()
        manager.ready(await reloaded(live, reread))


async def reloaded(live: LiveSettings, reread: Callable[[], Settings]) -> str:
    """Read the settings again and put them in force; one sentence says what became of it.

    Settings that cannot be used leave everything as it was.
    """
    try:
        change = await live.reload(reread())
    except OutriderError as error:
        log.event(_logger, "settings_refused", level=logging.ERROR, reason=str(error))
        return f"The settings stay as they were. {error}"
    level = logging.WARNING if change.restart_needed else logging.INFO
    log.event(
        _logger,
        "settings_reloaded",
        level=level,
        applied=", ".join(change.applied) or "nothing",
        restart_needed=", ".join(change.restart_needed) or "nothing",
    )
    if change.restart_needed:
        return f"Reloaded; to be started anew for {', '.join(change.restart_needed)}."
    return f"Reloaded: {', '.join(change.applied) or 'nothing has changed'}."


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
