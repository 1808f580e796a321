"""What a pass has to tell, kept until there is time to tell it: while the next pass runs.

Telling takes the host a while, and wakes those who read it, who then want the interpreter, too.
Keeps the order of all events. Used by one thread at a time. Knows nothing of passes or sessions.
"""

from collections import deque
from functools import partial

from outrider_cloud.engine import EngineEvent, Sink


class Outbox:
    """Events on their way to their sinks."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Sink, EngineEvent]] = deque()

    def sink(self, sink: Sink) -> Sink:
        """A sink that keeps events for this one."""
        return partial(self._keep, sink)

    def deliver(self) -> None:
        """Hand out all that is kept, in the order in which it came."""
        while self._kept:
            sink, event = self._kept.popleft()
            sink(event)

    def _keep(self, sink: Sink, event: EngineEvent) -> None:
        self._kept.append((sink, event))
