"""A device's connection to the broker: made again and again, as long as the daemon runs.

Publishes what is in the outbox, and hands what comes to the agent. Decides nothing.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from outrider_common import log
from outrider_common.errors import OutriderError, UnavailableError, ungrouped
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.backoff import Backoff
from outrider_edge.fleet.agent import FleetAgent
from outrider_edge.fleet.broker import (
    BrokerRefusalError,
    connect_options,
    connect_properties,
    connected,
    connection_error,
    incoming,
    publish,
    subscribe,
)
from outrider_edge.fleet.device_reports import goodbye
from outrider_edge.fleet.exchange import Outbox
from outrider_edge.fleet.payloads import encoded
from outrider_edge.fleet.topics import Report, Topics

if TYPE_CHECKING:
    import aiomqtt

_logger = logging.getLogger(__name__)

SESSION_S: Final = 3600
"""For how long the broker keeps messages for a device that is away."""

_GOODBYE_S: Final = 2.0

_STEADY_S: Final = 60.0
"""After a connection that held so long, the next attempt comes soon again: nobody fights for it."""


class DeviceLink:
    """Keeps a device connected.

    Args:
        settings: of the fleet.
        device: its name.
        topics: of the fleet.
        agent: takes what comes.
        outbox: what is to be published.
    """

    def __init__(
        self,
        settings: FleetSettings,
        device: str,
        topics: Topics,
        agent: FleetAgent,
        outbox: Outbox,
    ) -> None:
        self._settings = settings
        self._device = device
        self._topics = topics
        self._agent = agent
        self._outbox = outbox
        self._backoff = Backoff(1.0, 60.0)
        self._slow_backoff = Backoff(30.0, 600.0)
        self._said = ""
        self._connected_at = math.inf

    async def run(self) -> None:
        """Be connected until cancelled; a broker may come and go."""
        import aiomqtt

        while True:
            try:
                async with self._connected() as client:
                    await self._begin(client)
                    await self._go_on(client)
            except (aiomqtt.MqttError, OutriderError, OSError, ValueError) as error:
                await asyncio.sleep(self._note(connection_error(error, self._settings)))

    @asynccontextmanager
    async def _connected(self) -> "AsyncIterator[aiomqtt.Client]":
        """A connection; at the end of the daemon it says goodbye."""
        import aiomqtt

        will = aiomqtt.Will(
            self._topics.report(self._device, Report.STATE),
            encoded(goodbye("The broker has lost the device.")),
            qos=1,
            retain=True,
        )
        client = aiomqtt.Client(
            **connect_options(self._settings),
            identifier=f"{self._topics.prefix}/{self._device}",
            will=will,
            clean_start=False,
            properties=connect_properties(SESSION_S),
        )
        async with connected(client):
            try:
                yield client
            except asyncio.CancelledError:
                self._agent.say_goodbye()
                with suppress(aiomqtt.MqttError, TimeoutError):
                    async with asyncio.timeout(_GOODBYE_S):
                        await self._empty(client)
                raise

    async def _begin(self, client: "aiomqtt.Client") -> None:
        if not await subscribe(client, self._topics.all_asks(self._device)):
            raise BrokerRefusalError(
                f"The broker at {self._settings.broker} does not let {self._settings.username!r} "
                f"read {self._topics.all_asks(self._device)}; correct its access rules."
            )
        log.event(_logger, "fleet_connected", broker=self._settings.broker, device=self._device)
        self._said = ""
        self._connected_at = asyncio.get_running_loop().time()
        self._agent.say_all()

    async def _go_on(self, client: "aiomqtt.Client") -> None:
        import aiomqtt

        try:
            with ungrouped():
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send(client), name="fleet sender")
                    tasks.create_task(self._receive(client), name="fleet receiver")
        except aiomqtt.MqttError as error:
            raise UnavailableError(
                f"The broker at {self._settings.broker} has ended the connection; see that it "
                f"runs, and that no other client is called {self._device!r} (fleet.device_id)."
            ) from error

    async def _send(self, client: "aiomqtt.Client") -> None:
        while True:
            await self._send_next(client)

    async def _send_next(self, client: "aiomqtt.Client") -> None:
        message = await self._outbox.next()
        await publish(client, message)
        self._outbox.done(message)

    async def _empty(self, client: "aiomqtt.Client") -> None:
        while not self._outbox.is_empty:
            await self._send_next(client)

    async def _receive(self, client: "aiomqtt.Client") -> None:
        async for message in client.messages:
            self._agent.take(incoming(message))

    def _note(self, error: OutriderError) -> float:
        """Log what happened, once as long as it stays the same; how long to wait then."""
        if str(error) != self._said:
            self._said = str(error)
            log.event(_logger, "fleet_away", level=logging.WARNING, reason=self._said)
        if asyncio.get_running_loop().time() - self._connected_at > _STEADY_S:
            self._backoff.reset()
            self._slow_backoff.reset()
        self._connected_at = math.inf
        refused = isinstance(error, BrokerRefusalError)
        return (self._slow_backoff if refused else self._backoff).next_s()
