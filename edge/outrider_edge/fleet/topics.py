"""The topics of a fleet: which one is for what, and whose it is.

Pure. The list is in `proto/outrider/v1/fleet.proto`.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from outrider_common.settings.fleet import DEVICE_ID

_DEVICES: Final = "devices"
_REPLIES: Final = "replies"
_REPLY_LENGTH: Final = 512


class Report(StrEnum):
    """What a device says."""

    STATE = "state"
    TELEMETRY = "telemetry"
    SETTINGS = "settings"
    DRAFTER = "drafter"


class Ask(StrEnum):
    """What a device is asked for."""

    SETTINGS = "settings"
    DRAFTER = "drafter"
    COMMAND = "command"
    JOB = "job"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics under one prefix."""

    prefix: str

    def report(self, device: str, report: str) -> str:
        """Where a device says something."""
        return f"{self.prefix}/{_DEVICES}/{device}/report/{report}"

    def ask(self, device: str, ask: Ask) -> str:
        """Where a device is asked for something."""
        return f"{self.prefix}/{_DEVICES}/{device}/ask/{ask}"

    def all_asks(self, device: str) -> str:
        """A filter for everything that a device is asked for."""
        return f"{self.prefix}/{_DEVICES}/{device}/ask/#"

    def all_reports(self) -> str:
        """A filter for everything that devices say."""
        return f"{self.prefix}/{_DEVICES}/+/report/#"

    def reports_of(self, report: Report) -> str:
        """A filter for what devices say of one thing."""
        return f"{self.prefix}/{_DEVICES}/+/report/{report}"

    def asks_for(self, ask: Ask) -> str:
        """A filter for what devices are asked of one kind."""
        return f"{self.prefix}/{_DEVICES}/+/ask/{ask}"

    def reply(self, name: str) -> str:
        """Where the answers for one operator go."""
        return f"{self.prefix}/{_REPLIES}/{name}"

    def asked(self, topic: str) -> Ask | None:
        """What a message under `all_asks` is about; None: nothing that is known here."""
        try:
            return Ask(topic.rpartition("/")[2])
        except ValueError:
            return None

    def reported(self, topic: str) -> tuple[str, str] | None:
        """Device and last word of a topic of a device; None: it is none."""
        root = f"{self.prefix}/{_DEVICES}/"
        parts = topic.removeprefix(root).split("/")
        is_good = topic.startswith(root) and len(parts) == 3 and re.fullmatch(DEVICE_ID, parts[0])
        return (parts[0], parts[2]) if is_good else None

    def may_reply(self, topic: str) -> bool:
        """Whether a device answers there: nobody shall make it write elsewhere."""
        is_plain = "+" not in topic and "#" not in topic and len(topic) <= _REPLY_LENGTH
        return is_plain and topic.startswith(f"{self.prefix}/{_REPLIES}/")
