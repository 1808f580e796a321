"""Finds who answers a chat: the daemon that runs here, or an edge built for this chat.

The composition root of `outrider chat`.
"""

import contextlib
from collections.abc import AsyncIterator

from outrider_common.config import Settings
from outrider_edge.calibration_store import CalibrationStore
from outrider_edge.chat.sources import AnswerSource, DaemonSource, RuntimeSource
from outrider_edge.daemon_client import DaemonAddress, DaemonClient, NoDaemonError
from outrider_edge.runtime import edge_runtime
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore


@contextlib.asynccontextmanager
async def answer_source(
    settings: Settings, store: ModelStore, use_daemon: bool | None
) -> AsyncIterator[AnswerSource]:
    """Who answers.

    Args:
        settings: say where the daemon would be, and what an edge in this process is like.
        store: of models.
        use_daemon: True: the daemon or nobody. False: an edge in this process. None: the daemon if
            one runs.

    Raises:
        NoDaemonError: the daemon is wanted and not there.
        OutriderError: the daemon has no verifier, or there can be no edge in this process.
    """
    daemon = None if use_daemon is False else await _daemon(settings, is_wanted=bool(use_daemon))
    if daemon is not None:
        yield daemon
        return
    bundle = Bundle.load(store.resolve_bundle(settings.edge.bundle))
    calibrations = CalibrationStore(store.root / "calibrations")
    async with edge_runtime(settings.edge, bundle, calibrations) as runtime:
        title = f"{runtime.info.model} at {settings.edge.verifier}, drafted by {bundle.path.name}"
        yield RuntimeSource(runtime, title)


async def _daemon(settings: Settings, *, is_wanted: bool) -> DaemonSource | None:
    """The daemon; None if there is none and none is wanted."""
    client = DaemonClient(DaemonAddress.of(settings.daemon))
    try:
        return DaemonSource(client, await client.model())
    except NoDaemonError:
        if is_wanted:
            raise
        return None
