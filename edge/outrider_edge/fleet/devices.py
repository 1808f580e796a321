"""What an operator knows of devices, from what the broker keeps of them.

Pure. Knows nothing of how messages come, or of how they are shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import InvalidInputError
from outrider_edge.fleet.exchange import Incoming
from outrider_edge.fleet.payloads import PayloadError, decoded
from outrider_edge.fleet.topics import Report, Topics


class UnknownDeviceError(InvalidInputError):
    """A device that the broker knows nothing of."""

    reason = "UNKNOWN_DEVICE"


@dataclass(slots=True)
class Device:
    """One device.

    Attributes:
        name: of the device.
        state: who it is and how it is.
        telemetry: its figures; empty if it has none, or none that are recent.
        settings: what it reports of its settings.
        drafter: what it reports of its drafter.
        desired: the settings that it was asked for last.
        faults: payloads that could not be read.
    """

    name: str
    state: pb.DeviceState = field(default_factory=pb.DeviceState)
    telemetry: pb.Telemetry = field(default_factory=pb.Telemetry)
    settings: pb.ReportedSettings = field(default_factory=pb.ReportedSettings)
    drafter: pb.ReportedDrafter = field(default_factory=pb.ReportedDrafter)
    desired: pb.DesiredSettings = field(default_factory=pb.DesiredSettings)
    faults: list[str] = field(default_factory=list)

    @property
    def is_alive(self) -> bool:
        """Whether it is connected."""
        gone = (pb.DEVICE_STATUS_UNSPECIFIED, pb.DEVICE_STATUS_OFFLINE)
        return self.state.status not in gone

    @property
    def status(self) -> str:
        """Its status, in a word."""
        return _word(pb.DeviceStatus.Name(self.state.status), "DEVICE_STATUS_")

    @property
    def stage(self) -> str:
        """How far its rollout is, in a word; empty if there is none."""
        if not self.drafter.revision:
            return ""
        return _word(pb.RolloutStage.Name(self.drafter.stage), "ROLLOUT_STAGE_")

    def next_desired(self, changes: Mapping[str, str | None]) -> pb.DesiredSettings:
        """Its settings with some changed, or taken back (None), under the next revision."""
        reported, asked = self.settings, self.desired
        was_refused = (
            reported.asked_revision == asked.revision
            and reported.outcome == pb.SETTINGS_OUTCOME_REFUSED
        )
        values = dict(reported.values if was_refused else asked.values)
        for name, value in changes.items():
            values.pop(name, None)
            if value is not None:
                values[name] = value
        known = max(asked.revision, reported.revision, reported.asked_revision)
        return pb.DesiredSettings(revision=known + 1, values=values)

    def as_json(self) -> dict[str, Any]:
        """All that is known, for `json.dumps`."""
        return {
            "device": self.name,
            "is_alive": self.is_alive,
            **{
                name: json_format.MessageToDict(getattr(self, name))
                for name in ("state", "telemetry", "settings", "drafter")
            },
            "faults": self.faults,
        }


_REPORTS: Final[Mapping[str, type[Message]]] = {
    Report.STATE: pb.DeviceState,
    Report.TELEMETRY: pb.Telemetry,
    Report.SETTINGS: pb.ReportedSettings,
    Report.DRAFTER: pb.ReportedDrafter,
}


def devices_of(messages: Iterable[Incoming], topics: Topics) -> dict[str, Device]:
    """The devices of which there are messages, by name; later messages replace earlier ones."""
    devices: dict[str, Device] = {}
    for message in messages:
        if place := topics.reported(message.topic):
            device = devices.setdefault(place[0], Device(place[0]))
            note(device, message, topics)
    return dict(sorted(devices.items()))


def note(device: Device, message: Incoming, topics: Topics) -> None:
    """Put what a message says into what is known of its device."""
    name = message.topic.rpartition("/")[2]
    is_report = message.topic == topics.report(device.name, name)
    if not message.payload:
        return
    try:
        if is_report and name in _REPORTS:
            setattr(device, name, decoded(message.payload, _REPORTS[name]))
        elif not is_report and name == "settings":
            device.desired = decoded(message.payload, pb.DesiredSettings)
    except PayloadError as error:
        device.faults.append(str(error))


def chosen(devices: Mapping[str, Device], names: Sequence[str], *, is_all: bool) -> list[Device]:
    """The devices that a command is for.

    Raises:
        UnknownDeviceError: one is not known, or none was named.
    """
    if is_all and devices:
        return list(devices.values())
    if not names:
        raise UnknownDeviceError(
            "No device is known to the broker; start one with fleet.broker set."
            if is_all
            else "No device is named; say which with --device, or --all."
        )
    for name in names:
        if name not in devices:
            known = ", ".join(devices) or "none"
            raise UnknownDeviceError(f"There is no device {name!r}; the broker knows: {known}.")
    return [devices[name] for name in dict.fromkeys(names)]


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", " ")
