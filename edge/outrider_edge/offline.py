"""Requests that wait for a verifier to be back, in the order in which they came.

Those that have not begun wait in one line; those that broke off, which have their places already,
in another. Knows nothing of what a verifier is, and nothing of HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from outrider_common.errors import CapacityError, UnavailableError

_T = TypeVar("_T")

RETRY_S: Final = 0.5
"""How long the first of a line waits before it tries again."""

Attempt = Callable[[], Awaitable[_T | None]]
"""Gives what was waited for, None where it is not there yet; raises where waiting is of no use."""


class OfflineQueue:
    """Lets requests wait.

    Args:
        max_waiting: requests that have not begun, at most.
        timeout_s: for how long each waits.
        retry_s: how long the first of a line waits before it tries again.
    """

    def __init__(self, max_waiting: int, timeout_s: float, retry_s: float = RETRY_S) -> None:
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._retry_s = retry_s
        self._num_new = 0
        self._num_broken = 0
        self._new = asyncio.Lock()  # whoever waits for it longest gets it
        self._broken = asyncio.Lock()

    @property
    def timeout_s(self) -> float:
        """For how long each waits."""
        return self._timeout_s

    @property
    def retry_s(self) -> float:
        """How long the first of a line waits before it tries again."""
        return self._retry_s

    @property
    def num_waiting(self) -> int:
        """Requests that wait now."""
        return self._num_new + self._num_broken

    async def to_begin(self, attempt: "Attempt[_T]") -> _T:
        """Wait until a request may begin.

        Raises:
            CapacityError: too many wait already.
            UnavailableError: it has waited for too long.
            OutriderError: what the attempt raises.
        """
        if self._num_new >= self._max_waiting:
            raise CapacityError(
                f"{self._num_new} requests wait for a verifier (daemon.offline_max_waiting); try "
                "again."
            )
        self._num_new += 1
        try:
            return await self._in_line(self._new, attempt)
        finally:
            self._num_new -= 1

    async def to_go_on(self, attempt: "Attempt[_T]") -> _T:
        """Wait until an answer that broke off may go on; raises as `to_begin` does."""
        self._num_broken += 1
        try:
            return await self._in_line(self._broken, attempt)
        finally:
            self._num_broken -= 1

    async def _in_line(self, line: asyncio.Lock, attempt: "Attempt[_T]") -> _T:
        try:
            async with asyncio.timeout(self._timeout_s), line:
                found = await attempt()
                while found is None:
                    await asyncio.sleep(self._retry_s)
                    found = await attempt()
                return found
        except TimeoutError:
            raise UnavailableError(
                f"No verifier was there for {self._timeout_s:g} s (daemon.offline_timeout_s); try "
                "again later."
            ) from None
