"""Who is in use, by how many, and when nobody uses it any more.

Pure but for waiting. Knows nothing of what is used.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator


class Holds:
    """Counts the users of things, each known by its identity."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._released = asyncio.Event()

    @contextlib.contextmanager
    def held(self, thing: object) -> Iterator[None]:
        """Use a thing."""
        key = id(thing)
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]
                self._released.set()

    async def until_free(self, thing: object) -> None:
        """Wait until nobody uses it."""
        while self._counts[id(thing)]:
            self._released.clear()
            await self._released.wait()
