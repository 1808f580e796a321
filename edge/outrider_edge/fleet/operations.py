"""What an operator does to many devices: set settings, roll out a drafter stage by stage.

Knows nothing of MQTT's library, or of how progress is shown.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.fleet.devices import Device, devices_of, note
from outrider_edge.fleet.exchange import Incoming
from outrider_edge.fleet.operator_link import OperatorLink
from outrider_edge.fleet.topics import Ask, Topics

_LAST_STAGES: Final = (
    pb.ROLLOUT_STAGE_ACCEPTED,
    pb.ROLLOUT_STAGE_ROLLED_BACK,
    pb.ROLLOUT_STAGE_REFUSED,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a wish at one device.

    Attributes:
        device: its name.
        is_good: it is as it was wished.
        sentence: for people.
    """

    device: str
    is_good: bool
    sentence: str

    def as_json(self) -> dict[str, object]:
        """The outcome for `json.dumps`."""
        return {"device": self.device, "is_good": self.is_good, "sentence": self.sentence}


OnProgress = Callable[[str, str], None]
"""Told a device and a sentence, as things happen."""


async def look(link: OperatorLink, topics: Topics) -> dict[str, Device]:
    """All devices that the broker knows."""
    filters = topics.all_reports(), topics.asks_for(Ask.SETTINGS)
    return devices_of(await link.retained(*filters), topics)


async def set_settings(
    link: OperatorLink,
    topics: Topics,
    devices: Sequence[Device],
    changes: Mapping[str, str | None],
    limit_s: float,
    on_progress: OnProgress,
) -> list[Outcome]:
    """Change settings of devices; one that does not answer will find the wish when it is back."""
    wishes = {device.name: device.next_desired(changes) for device in devices}
    for name, wish in wishes.items():
        await link.tell(topics.ask(name, Ask.SETTINGS), wish, is_retained=True)

    def outcome(device: Device) -> Outcome | None:
        if device.settings.asked_revision != wishes[device.name].revision:
            return None
        return _outcome_of_settings(device)

    return await _until_told(link, topics, devices, outcome, limit_s, on_progress)


def _outcome_of_settings(device: Device) -> Outcome:
    settings = device.settings
    if settings.outcome == pb.SETTINGS_OUTCOME_REFUSED:
        return Outcome(device.name, False, f"Refused: {settings.reason}")
    restart = ", ".join(settings.restart_needed)
    if restart:
        return Outcome(device.name, True, f"Taken; to be started anew for {restart}.")
    return Outcome(device.name, True, f"In force, as revision {settings.revision}.")


async def roll_out(
    link: OperatorLink,
    topics: Topics,
    devices: Sequence[Device],
    wish: pb.DesiredDrafter,
    percent: float,
    limit_s: float,
    on_progress: OnProgress,
) -> list[Outcome]:
    """Offer a drafter to so many per cent of the devices at a time.

    The next ones are asked only when all before have accepted it.
    """
    outcomes: list[Outcome] = []
    size = max(1, math.ceil(len(devices) * percent / 100))
    for begin in range(0, len(devices), size):
        batch = devices[begin : begin + size]
        for device in batch:
            await link.tell(topics.ask(device.name, Ask.DRAFTER), wish, is_retained=True)

        def outcome(device: Device) -> Outcome | None:
            return _outcome_of_rollout(device, wish.revision, on_progress)

        told = await _until_told(link, topics, batch, outcome, limit_s, on_progress)
        outcomes += told
        if not all(one.is_good for one in told):
            break
    asked = {one.device for one in outcomes}
    not_asked = [device.name for device in devices if device.name not in asked]
    return outcomes + [Outcome(name, False, "Not asked, as others failed.") for name in not_asked]


def _outcome_of_rollout(device: Device, revision: int, on_progress: OnProgress) -> Outcome | None:
    drafter = device.drafter
    if drafter.refused_revision == revision:
        return Outcome(device.name, False, f"Refused: {drafter.refused_reason}")
    if drafter.revision != revision:
        return None
    if drafter.stage not in _LAST_STAGES:
        on_progress(device.name, f"{device.stage}, {drafter.num_trial_tokens} tokens compared")
        return None
    is_good = drafter.stage == pb.ROLLOUT_STAGE_ACCEPTED
    return Outcome(device.name, is_good, f"{device.stage.capitalize()}. {drafter.reason}")


async def _until_told(
    link: OperatorLink,
    topics: Topics,
    devices: Sequence[Device],
    outcome: Callable[[Device], Outcome | None],
    limit_s: float,
    on_progress: OnProgress,
) -> list[Outcome]:
    """Listen to reports until each device has an outcome, or the time is over."""
    waiting = {device.name: device for device in devices}
    outcomes: dict[str, Outcome] = {}

    def heard(message: Incoming) -> bool:
        place = topics.reported(message.topic)
        device = waiting.get(place[0]) if place else None
        if device is None:
            return False
        note(device, message, topics)
        if told := outcome(device):
            on_progress(device.name, told.sentence)
            outcomes[device.name] = told
            del waiting[device.name]
        return not waiting

    try:
        async with asyncio.timeout(limit_s):
            await link.hear(heard)
    except TimeoutError:
        for name in waiting:
            outcomes[name] = Outcome(name, False, f"It did not come to an end in {limit_s:g} s.")
    return [outcomes[device.name] for device in devices]


async def run_job(
    link: OperatorLink, topics: Topics, device: str, job: pb.Job, limit_s: float
) -> pb.JobResult:
    """Have a prompt answered on a device. Asked again, the job is generated once."""
    topic = topics.ask(device, Ask.JOB)
    return await link.ask(topic, job, pb.JobResult, limit_s)


async def command(
    link: OperatorLink, topics: Topics, device: str, order: pb.Command, limit_s: float
) -> pb.CommandResult:
    """Have a device do something."""
    topic = topics.ask(device, Ask.COMMAND)
    return await link.ask(topic, order, pb.CommandResult, limit_s)
