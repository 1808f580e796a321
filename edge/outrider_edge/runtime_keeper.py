"""Keeps the runtime of a daemon; another one can take its place while answers go on.

The new one is opened beside the old one, which is closed when the last of its answers is complete.
Knows nothing of what is in a runtime.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final

from outrider_common import log
from outrider_common.errors import UnavailableError
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.awaited_verifier import AwaitedVerifier
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.serving import Identity, Serving

_logger = logging.getLogger(__name__)

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 5.0
"""How long the daemon waits before it tries again to reach the verifier, at first and at most."""


@dataclass(frozen=True, slots=True)
class NamedRuntime:
    """A runtime, and the name of its drafter bundle."""

    runtime: ServingRuntime
    bundle: str


OpenRuntime = Callable[[EdgeSettings], AbstractAsyncContextManager[NamedRuntime]]
"""Opens a runtime; raises an `OutriderError` where there can be none."""


Proof = Callable[[ServingRuntime], Awaitable[None]]
"""Raises an `OutriderError` if a runtime cannot do what it must."""


@dataclass(slots=True)
class _Tenure:
    """One runtime from when it is opened until it is closed."""

    settings: EdgeSettings
    opened: "asyncio.Future[NamedRuntime]"
    over: asyncio.Event = field(default_factory=asyncio.Event)


class RuntimeKeeper:
    """Opens runtimes, puts them in force, and closes them.

    Args:
        serving: where the runtime in force is.
        settings: of the first one.
        open_runtime: opens one.
        on_ready: told once, when the first one is there.
    """

    def __init__(
        self,
        serving: Serving,
        settings: EdgeSettings,
        open_runtime: OpenRuntime,
        on_ready: Callable[[NamedRuntime], None] = lambda _runtime: None,
    ) -> None:
        self._serving = serving
        self._settings = settings
        self._open_runtime = open_runtime
        self._on_ready = on_ready
        self._tasks: asyncio.TaskGroup | None = None
        self._current: _Tenure | None = None
        self._lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()

    async def run(self, served: asyncio.Event) -> None:
        """Have a runtime until everything is served; until there is a verifier, try again.

        Raises:
            OutriderError: there cannot be a runtime with the first settings.
        """
        async with asyncio.TaskGroup() as self._tasks:
            await self._reach()
            await served.wait()
            for retirement in self._retiring:
                await retirement
            if self._current:
                self._current.over.set()
        self._tasks = None

    async def _reach(self) -> None:
        pause_s = FIRST_RETRY_S
        awaited = AwaitedVerifier()
        while self._serving.runtime is None:
            try:
                await self.replace(self._settings)
            except UnavailableError as error:
                self._serving.waiting_for = str(error)
                awaited.missed(str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_RETRY_S)
        awaited.found()

    async def replace(self, settings: EdgeSettings, proof: Proof | None = None) -> None:
        """Put a runtime with other settings in force for all further answers.

        Args:
            settings: of the new one.
            proof: what it must be able to do first.

        Raises:
            OutriderError: there can be none; the one before goes on.
        """
        async with self._lock:
            tenure = await self._open(settings)
            try:
                if proof:
                    await proof(tenure.opened.result().runtime)
            except BaseException:
                tenure.over.set()
                raise
            self._put_in_force(tenure)

    async def settled(self) -> None:
        """Wait until runtimes that were replaced are not used any more."""
        while self._retiring:
            await asyncio.wait(self._retiring)

    async def _open(self, settings: EdgeSettings) -> _Tenure:
        if self._tasks is None:
            raise UnavailableError("The daemon is starting or stopping; try again.")
        tenure = _Tenure(settings, asyncio.get_running_loop().create_future())
        self._tasks.create_task(self._hold(tenure), name="runtime")
        await tenure.opened
        return tenure

    async def _hold(self, tenure: _Tenure) -> None:
        """Keep a runtime open; it is closed by the task that opened it."""
        try:
            async with self._open_runtime(tenure.settings) as named:
                if tenure.opened.cancelled():
                    return
                tenure.opened.set_result(named)
                await tenure.over.wait()
        except Exception as error:
            if tenure.opened.cancelled():  # nobody waits for it any more
                log.event(_logger, "runtime_not_opened", reason=str(error))
            elif tenure.opened.done():
                raise
            else:
                tenure.opened.set_exception(error)

    def _put_in_force(self, tenure: _Tenure) -> None:
        old, self._current = self._current, tenure
        named = tenure.opened.result()
        is_first = self._serving.runtime is None
        self._settings = tenure.settings
        self._serving.runtime = named.runtime
        self._serving.identity = Identity(
            tenure.settings, named.bundle, self._serving.identity.up_since
        )
        if is_first:
            self._on_ready(named)
        if old and self._tasks:
            retirement = self._tasks.create_task(self._retire(old), name="old runtime")
            self._retiring.add(retirement)
            retirement.add_done_callback(self._retiring.discard)
            log.event(_logger, "runtime_replaced", bundle=named.bundle)

    async def _retire(self, tenure: _Tenure) -> None:
        await self._serving.holds.until_free(tenure.opened.result().runtime)
        tenure.over.set()
