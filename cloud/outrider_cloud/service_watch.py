"""The verifier as a service: it says when it serves, and from then on that it lives.

Knows nothing of what is served.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Final

from outrider_common.service_manager import ServiceManager

_ALIVE_PER_WATCHDOG: Final = 3
"""So often a sign of life within the time of the watchdog."""


@contextlib.asynccontextmanager
async def watched_service(status: str) -> AsyncIterator[None]:
    """Tell the service manager that the verifier serves; in the end, that it stops.

    Args:
        status: what it serves, in a few words.
    """
    manager = ServiceManager.of(os.environ)
    manager.ready(status)
    watching = asyncio.create_task(_keep_alive(manager), name="watchdog")
    try:
        yield
    finally:
        watching.cancel()
        manager.stopping()


async def _keep_alive(manager: ServiceManager) -> None:
    """Say that the event loop turns, where a watchdog wants to hear it."""
    while manager.watchdog_s is not None:
        manager.alive()
        await asyncio.sleep(manager.watchdog_s / _ALIVE_PER_WATCHDOG)
