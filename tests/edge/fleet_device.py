"""A device of a fleet in this process, over runtimes in memory, and an operator for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from brokers import Broker
from fake_runtime import FakeRuntime

from outrider_common.config import Settings
from outrider_common.errors import OutriderError, ungrouped
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet.device import steered
from outrider_edge.fleet.devices import Device, note
from outrider_edge.fleet.drafter_desk import Pace
from outrider_edge.fleet.exchange import Incoming
from outrider_edge.fleet.memory import overlay_at_start
from outrider_edge.fleet.operator_link import OperatorLink, operator_link
from outrider_edge.fleet.topics import Topics
from outrider_edge.journal.desk import AnswerDesk
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.live_settings import LiveSettings
from outrider_edge.runtime_keeper import NamedRuntime, RuntimeKeeper
from outrider_edge.service import cancelled
from outrider_edge.serving import Identity, Serving
from outrider_models.store import ModelStore

QUICK = Pace(look_s=0.02, retry_s=0.05, num_downloads=2)
TOPICS = Topics("outrider")


@dataclass
class Factory:
    """Opens runtimes in memory.

    Attributes:
        make: one for a bundle.
        error: raised instead of opening one.
        opened: the settings of those that were opened.
    """

    make: Callable[[str], FakeRuntime] = lambda _bundle: FakeRuntime()
    error: OutriderError | None = None
    opened: list[EdgeSettings] = field(default_factory=list)
    num_open: int = 0

    @asynccontextmanager
    async def open(self, settings: EdgeSettings) -> AsyncIterator[NamedRuntime]:
        if self.error:
            raise self.error
        self.opened.append(settings)
        self.num_open += 1
        try:
            yield NamedRuntime(self.make(settings.bundle), settings.bundle)
        finally:
            self.num_open -= 1


@dataclass
class RunningDevice:
    """A device while it is steered."""

    serving: Serving
    live: LiveSettings
    keeper: RuntimeKeeper
    factory: Factory
    store: ModelStore


@asynccontextmanager
async def a_daemon(
    own: Settings, store: ModelStore, factory: Factory
) -> AsyncIterator[RunningDevice]:
    """A daemon without HTTP; its runtime is there unless the factory has an error."""
    overlay = overlay_at_start(own, store)
    in_force = overlay.on(own)
    bounds = Bounds(max_answers=8, max_bytes=1 << 20, max_age_s=60)
    answers = AnswerDesk(Journal(store.root / "journal", bounds), linger_s=30)
    identity = Identity(in_force.edge, "old")
    serving = Serving(in_force.daemon, in_force.sampling, identity, answers=answers)
    keeper = RuntimeKeeper(serving, in_force.edge, factory.open)
    live = LiveSettings(own, overlay, serving, keeper)
    served = asyncio.Event()
    with ungrouped():
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(keeper.run(served))
            journal = tasks.create_task(answers.run())
            while serving.runtime is None and not factory.error:  # noqa: ASYNC110 - as a daemon
                await asyncio.sleep(0)
            try:
                yield RunningDevice(serving, live, keeper, factory, store)
            finally:
                await cancelled([journal])
                served.set()
                if serving.runtime is None:
                    keeping.cancel()


@asynccontextmanager
async def a_device(
    fleet: FleetSettings,
    store_root: Path,
    factory: Factory | None = None,
    own: Settings | None = None,
) -> AsyncIterator[RunningDevice]:
    """A device that is steered over a broker."""
    settings = (own or Settings()).model_copy(update={"fleet": fleet})
    store = ModelStore(store_root)
    async with a_daemon(settings, store, factory or Factory()) as device:
        steering = asyncio.create_task(steered(fleet, store, device.serving, device.live, QUICK))
        try:
            yield device
        finally:
            await cancelled([steering])


@asynccontextmanager
async def an_operator(broker: Broker) -> AsyncIterator[OperatorLink]:
    async with operator_link(broker.settings("operator"), TOPICS) as link:
        yield link


async def until(link: OperatorLink, name: str, is_so: Callable[[Device], object]) -> Device:
    """Listen to the reports of a device until something is so; the test's limit is the only one."""
    device = Device(name)
    found = await link.retained(TOPICS.all_reports())

    def heard(message: Incoming) -> bool:
        place = TOPICS.reported(message.topic)
        if place and place[0] == name:
            note(device, message, TOPICS)
        return bool(is_so(device))

    for message in found:
        heard(message)
    if not is_so(device):
        await link.hear(heard)
    return device
