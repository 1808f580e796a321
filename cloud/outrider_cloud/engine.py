"""The seam between the service and whatever runs the target: open, extend, cancel; events back.

Knows nothing of gRPC.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from outrider_common.errors import OutriderError
from outrider_common.messages import Commit, ModelInfo, Occupancy, OpenSession
from outrider_common.tree import DraftNode

EngineEvent = Commit | OutriderError
"""What an engine tells a session's owner: tokens are final, or the session has failed."""

Sink = Callable[[EngineEvent], None]
"""Takes the events of one session; called on the engine's thread, must return at once."""


class EngineSession(Protocol):
    """One session, as the service holds it. Every method may be called from any thread."""

    @property
    def session_id(self) -> str:
        """A name for logs."""
        ...

    def extend(self, nodes: Sequence[DraftNode]) -> None:
        """Add draft nodes for the next pass; never waits for a pass that runs.

        Raises:
            ProtocolViolationError: nodes that no correct edge sends, or more than allowed; the
                session is as it was before.
        """
        ...

    def end_drafts(self) -> None:
        """No more draft nodes will come."""
        ...

    def taken(self) -> None:
        """One more commit is on its way to the edge; called by one thread.

        See `max_unread` of `Engine.open`.
        """
        ...

    def cancel(self) -> None:
        """Want no more tokens. Harmless when the session has ended already."""
        ...


class Engine(Protocol):
    """Runs the target for many sessions."""

    @property
    def info(self) -> ModelInfo:
        """The target and the limits."""
        ...

    @property
    def occupancy(self) -> Occupancy:
        """How many sessions run and wait, and how long a pass takes."""
        ...

    def open(
        self, message: OpenSession, sink: Sink, tenant: str = "", max_unread: int | None = None
    ) -> EngineSession:
        """Admit a session that fits `info`; its events go to `sink` until one ends it.

        A commit with a finish reason ends a session, and so does an error.

        Args:
            message: what the edge asks for.
            sink: takes the events.
            tenant: for whom it runs; rows and places are shared out between tenants.
            max_unread: it is not decoded while so many of its commits wait to be `taken`; None: it
                always is.

        Raises:
            CapacityError: no room for another session, not even to wait.
            OutriderError: the session does not fit the target.
        """
        ...
