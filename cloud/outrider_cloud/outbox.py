"""What a pass has to tell, kept until there is time to tell it: while the next pass runs.

Telling takes the host a while, and wakes those who read it, who then want the interpreter, too.
Keeps the order of all that is told. Used by one thread at a time. Knows nothing of passes or
sessions.
"""

from collections import deque
from collections.abc import Callable
from functools import partial

from outrider_cloud.engine import EngineEvent, Sink


class Outbox:
    """Events on their way to their sinks, and other work that can wait as long."""

    def __init__(self) -> None:
        self._kept: deque[Callable[[], object]] = deque()
        self._is_delivering = False

    def sink(self, sink: Sink) -> Sink:
        """A sink that keeps events for this one; what kept work tells it goes out with that."""
        return partial(self._keep, sink)

    def later(self, work: Callable[[], object]) -> None:
        """Do this when it is its turn."""
        self._kept.append(work)

    def deliver(self) -> None:
        """Hand out and do all that is kept, in the order in which it came."""
        self._is_delivering = True
        try:
            while self._kept:
                self._kept.popleft()()
        finally:
            self._is_delivering = False

    def _keep(self, sink: Sink, event: EngineEvent) -> None:
        if self._is_delivering:
            sink(event)
        else:
            self.later(partial(sink, event))
