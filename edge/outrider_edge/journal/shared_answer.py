"""One answer that is written once, and read by any number of clients, each from its beginning.

Knows nothing of how it is written, and nothing of HTTP.
"""

import asyncio
from collections.abc import Sequence

from outrider_edge.choice_stream import Event, Finished


class SharedAnswer:
    """What is written so far.

    Args:
        num_choices: it is complete when so many are.
        events: what is known already.
    """

    def __init__(self, num_choices: int, events: Sequence[Event] = ()) -> None:
        self._num_choices = num_choices
        self._events: list[Event] = []
        self._num_finished = 0
        self._error: Exception | None = None
        self._readers: set[Reader] = set()
        self.say(events)

    @property
    def events(self) -> Sequence[Event]:
        """What has happened, in order."""
        return self._events

    @property
    def error(self) -> Exception | None:
        """What ended it before it was complete."""
        return self._error

    @property
    def is_complete(self) -> bool:
        """All of its choices are."""
        return self._num_finished == self._num_choices

    @property
    def is_verified(self) -> bool:
        """Likewise, and all of it is the target's."""
        ended = [one.result for one in self._events if isinstance(one, Finished)]
        return self.is_complete and all(result.is_verified for result in ended)

    @property
    def is_of_use(self) -> bool:
        """Who asks again may read it: it is verified, or is being written."""
        return self._error is None and (self.is_verified or not self.is_complete)

    @property
    def is_read(self) -> bool:
        """Somebody reads it."""
        return bool(self._readers)

    def say(self, events: Sequence[Event]) -> None:
        """Something has happened."""
        self._events.extend(events)
        self._num_finished += sum(isinstance(one, Finished) for one in events)
        self._wake()

    def fail(self, error: Exception) -> None:
        """Nothing more comes: readers are told why, after what was written before."""
        self._error = error
        self._wake()

    def attach(self) -> "Reader":
        """Read it from its beginning."""
        reader = Reader(self)
        self._readers.add(reader)
        return reader

    def detach(self, reader: "Reader") -> None:
        """A reader has gone."""
        self._readers.discard(reader)

    def _wake(self) -> None:
        for reader in self._readers:
            reader.news.set()


class Reader:
    """One client's place in an answer.

    Args:
        answer: what it reads.
    """

    def __init__(self, answer: SharedAnswer) -> None:
        self._answer = answer
        self._num_read = 0
        self.news = asyncio.Event()

    async def events(self) -> list[Event]:
        """What has happened since the last time; waits until there is something.

        Raises:
            Exception: what ended the answer, after everything that was written before.
        """
        while self._num_read == len(self._answer.events):
            if self._answer.error is not None:
                raise self._answer.error
            self.news.clear()
            await self.news.wait()
        events = list(self._answer.events[self._num_read :])
        self._num_read += len(events)
        return events
