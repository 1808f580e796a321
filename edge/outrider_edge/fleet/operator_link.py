"""An operator's connection to the broker: asks devices, and hears what they report.

Decides nothing of what is asked.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from google.protobuf.message import Message

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import UnavailableError, ungrouped
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.broker import (
    connect_options,
    connect_properties,
    connected,
    connection_error,
    incoming,
    publish,
    require_mqtt,
    subscribe,
)
from outrider_edge.fleet.exchange import Incoming, Outgoing, ReplyTo
from outrider_edge.fleet.payloads import decoded
from outrider_edge.fleet.topics import Topics

if TYPE_CHECKING:
    import aiomqtt

RESEND_S: Final = 10.0
"""A question without an answer is asked again after so long."""

_LIMIT_S: Final = 10.0
"""How long the broker may take to hand out what it keeps."""

_M = TypeVar("_M", bound=Message)

Heard = Callable[[Incoming], bool]
"""Takes a message; true: this was what was waited for."""


@asynccontextmanager
async def operator_link(settings: FleetSettings, topics: Topics) -> "AsyncIterator[OperatorLink]":
    """A connection for one command.

    Raises:
        UnavailableError: there is no broker, or it has gone away.
        BrokerRefusalError: it does not take these credentials.
        ConfigError: none is set.
    """
    require_mqtt()
    import aiomqtt

    try:
        client = aiomqtt.Client(
            **connect_options(settings),
            identifier=f"outrider-operator-{secrets.token_hex(8)}",
            properties=connect_properties(0),
        )
        async with connected(client):
            link = OperatorLink(client, topics)
            await subscribe(client, link.reply_topic)
            yield link
    except (aiomqtt.MqttError, OSError, ValueError) as error:
        raise connection_error(error, settings) from error


class OperatorLink:
    """Asks and hears. One thing at a time.

    Args:
        client: connected.
        topics: of the fleet.
    """

    def __init__(self, client: "aiomqtt.Client", topics: Topics) -> None:
        self._client = client
        self._topics = topics
        self.reply_topic = topics.reply(f"operator-{secrets.token_hex(8)}")

    async def retained(self, *filters: str) -> list[Incoming]:
        """Everything that the broker keeps under these filters.

        It hands out what it keeps before what is published later: a message of our own comes last.

        Raises:
            UnavailableError: that message did not come.
        """
        for one in filters:
            await subscribe(self._client, one)
        mark = secrets.token_bytes(8)
        await self.tell(self.reply_topic, pb.CommandResult(), ReplyTo(self.reply_topic, mark))
        found: list[Incoming] = []

        def is_mark(message: Incoming) -> bool:
            if message.topic == self.reply_topic:
                return message.correlation == mark
            found.append(message)
            return False

        try:
            async with asyncio.timeout(_LIMIT_S):
                await self.hear(is_mark)
        except TimeoutError:
            raise UnavailableError(
                f"The broker did not hand out what it knows in {_LIMIT_S:g} s; see that its access "
                f"rules let the operator read and write {self._topics.reply('#')}."
            ) from None
        return found

    async def tell(
        self,
        topic: str,
        message: Message,
        reply_to: ReplyTo | None = None,
        *,
        is_retained: bool = False,
        expires_in_s: int | None = None,
    ) -> None:
        """Publish something."""
        sent = Outgoing(topic, message, is_retained=is_retained, expires_in_s=expires_in_s)
        await publish(self._client, sent, reply_to)

    async def hear(self, heard: Heard) -> None:
        """Listen until what was waited for has come."""
        async for message in self._client.messages:
            if heard(incoming(message)):
                return

    async def ask(self, topic: str, question: Message, kind: type[_M], limit_s: float) -> _M:
        """Ask a device, again and again until it answers.

        Args:
            topic: where.
            question: the same each time: asked twice, it must do no harm.
            kind: of the answer.
            limit_s: how long it may take.

        Raises:
            UnavailableError: there was no answer.
        """
        correlation = secrets.token_bytes(16)
        reply_to = ReplyTo(self.reply_topic, correlation)
        answers: list[_M] = []

        def is_answer(message: Incoming) -> bool:
            if message.correlation != correlation:
                return False
            answers.append(decoded(message.payload, kind))
            return True

        async def ask_again() -> None:
            loop = asyncio.get_running_loop()
            end = loop.time() + limit_s
            while (left_s := end - loop.time()) > 0:
                await self.tell(topic, question, reply_to, expires_in_s=max(1, int(left_s)))
                await asyncio.sleep(RESEND_S)

        try:
            async with asyncio.timeout(limit_s):
                await _while_doing(ask_again(), self.hear(is_answer))
        except TimeoutError:
            raise UnavailableError(
                f"The device did not answer in {limit_s:g} s; see with 'outrider fleet status' "
                "whether it is there, or give it longer with --timeout."
            ) from None
        return answers[0]


async def _while_doing(beside: Coroutine[Any, Any, None], main: Coroutine[Any, Any, None]) -> None:
    """Wait for one thing, and do another as long as that takes."""
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            doing = tasks.create_task(beside, name="asking")
            await main
            doing.cancel()
