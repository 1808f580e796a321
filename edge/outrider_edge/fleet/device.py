"""Puts the agent of a device together. The composition root of the fleet on a device."""

import asyncio
import time
from functools import partial
from typing import Final

from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.agent import Desks, FleetAgent
from outrider_edge.fleet.broker import require_mqtt
from outrider_edge.fleet.command_desk import CommandDesk
from outrider_edge.fleet.device_link import DeviceLink
from outrider_edge.fleet.device_name import device_name
from outrider_edge.fleet.drafter_desk import DrafterDesk, Pace
from outrider_edge.fleet.exchange import Outbox
from outrider_edge.fleet.job_answer import answer
from outrider_edge.fleet.job_desk import JobDesk
from outrider_edge.fleet.memory import FleetMemory
from outrider_edge.fleet.settings_desk import SettingsDesk
from outrider_edge.fleet.topics import Topics
from outrider_edge.live_settings import LiveSettings
from outrider_edge.serving import Serving
from outrider_models.store import ModelStore

_JOBS_AT_ONCE: Final = 4


async def steered(
    settings: FleetSettings,
    store: ModelStore,
    serving: Serving,
    live: LiveSettings,
    pace: Pace | None = None,
) -> None:
    """Let the fleet steer a daemon, until cancelled.

    Raises:
        MissingExtraError: the extra `mqtt` is not installed.
    """
    require_mqtt()
    topics = Topics(settings.topic_prefix)
    agent, outbox = assembled(settings, topics, store, serving, live, pace)
    link = DeviceLink(settings, device_name(settings), topics, agent, outbox)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent.run(), name="fleet agent")
        tasks.create_task(link.run(), name="fleet link")


def assembled(
    settings: FleetSettings,
    topics: Topics,
    store: ModelStore,
    serving: Serving,
    live: LiveSettings,
    pace: Pace | None = None,
) -> tuple[FleetAgent, Outbox]:
    """An agent with its desks, and where its messages wait for a broker."""
    memory, outbox = FleetMemory(store.root / "fleet"), Outbox()
    desks = Desks(
        SettingsDesk(live, memory),
        DrafterDesk(settings, store, live, serving, memory, lambda: agent.say_drafter(), pace),
        CommandDesk(serving),
        JobDesk(
            partial(answer, serving, asyncio.Semaphore(_JOBS_AT_ONCE)),
            lambda reply_to, result: agent.reply(reply_to, result),
            time.monotonic,
        ),
    )
    device = device_name(settings)
    agent = FleetAgent(device, topics, serving, desks, outbox, settings.telemetry_interval_s)
    return agent, outbox
