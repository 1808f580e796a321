"""Messages on their way between an agent and the broker, and where they wait.

Knows nothing of MQTT's library.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

MOST_WAITING: Final = 256
"""Answers that wait for a broker at most; then the oldest is dropped, and is asked for again."""


@dataclass(frozen=True, slots=True)
class ReplyTo:
    """Where an answer goes.

    Attributes:
        topic: the response topic.
        correlation: sent with the answer as it came.
    """

    topic: str
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message for this device.

    Attributes:
        topic: where it was published.
        payload: its content.
        reply_to: where an answer goes; None: nobody waits for one.
        expires_in_s: after so long nobody wants what it asks for; None: always.
        correlation: of the question, where this is an answer.
    """

    topic: str
    payload: bytes
    reply_to: ReplyTo | None = None
    expires_in_s: float | None = None
    correlation: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message of this device.

    Attributes:
        topic: where it is published.
        message: its content.
        is_retained: it says how things are: of several on a topic only the last one counts.
        correlation: that of the question.
        expires_in_s: the broker forgets it after so long; None: never.
    """

    topic: str
    message: Message
    is_retained: bool = False
    correlation: bytes | None = None
    expires_in_s: int | None = None


class Outbox:
    """What waits to be published: one message for each retained topic, and so many answers."""

    def __init__(self) -> None:
        self._retained: dict[str, Outgoing] = {}
        self._answers: deque[Outgoing] = deque(maxlen=MOST_WAITING)
        self._news = asyncio.Event()

    def put(self, message: Outgoing) -> None:
        """Publish this as soon as there is a broker."""
        if message.is_retained:
            self._retained[message.topic] = message
        else:
            self._answers.append(message)
        self._news.set()

    async def next(self) -> Outgoing:
        """What is to be published next; it stays here until `done`."""
        while not (self._retained or self._answers):
            self._news.clear()
            await self._news.wait()
        if self._retained:
            return next(iter(self._retained.values()))
        return self._answers[0]

    def done(self, message: Outgoing) -> None:
        """A message has been published."""
        if self._retained.get(message.topic) is message:
            del self._retained[message.topic]
        elif self._answers and self._answers[0] is message:
            self._answers.popleft()

    @property
    def is_empty(self) -> bool:
        """Whether everything has been published."""
        return not (self._retained or self._answers)
