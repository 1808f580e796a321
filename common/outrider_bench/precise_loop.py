"""An event loop whose timers are right to a tenth of a millisecond.

epoll counts in milliseconds, so asyncio's timers come up to one late; `select` counts in
microseconds, but asks about few sockets. Waiting with `select` on epoll's own descriptor has both.
"""

import asyncio
import select
import selectors
from typing import Any


class PreciseSelector(selectors.DefaultSelector):
    """The platform's selector, with timeouts that are not rounded up to milliseconds."""

    def select(self, timeout: float | None = None) -> Any:
        """Wait for events; see `selectors.BaseSelector.select`."""
        if timeout is not None and timeout > 0:
            select.select([self.fileno()], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def precise_event_loop() -> asyncio.AbstractEventLoop:
    """A new event loop with such timers; the usual one where epoll is not what it waits with."""
    if selectors.DefaultSelector is not getattr(selectors, "EpollSelector", None):
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(PreciseSelector())
