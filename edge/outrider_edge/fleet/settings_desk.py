"""Takes the settings that the fleet desires, whole or not at all, and reports what is in force.

Knows nothing of MQTT.
"""

from dataclasses import replace

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import InvalidInputError, OutriderError
from outrider_edge.fleet.memory import AppliedSettings, FleetMemory
from outrider_edge.live_settings import LiveSettings


class OldRevisionError(InvalidInputError):
    """A wish that is not newer than what is there."""

    reason = "OLD_REVISION"


def require_newer(revision: int, known: int) -> None:
    """Refuse a revision that is not above the known one.

    Raises:
        OldRevisionError: it is not.
    """
    if revision <= known:
        raise OldRevisionError(
            f"Revision {revision} is not above {known}, which the device has; ask with revision "
            f"{known + 1} or above."
        )


class SettingsDesk:
    """The desired and the reported settings of a device.

    Args:
        live: the settings of the daemon.
        memory: what was applied before, and keeps what is applied.
    """

    def __init__(self, live: LiveSettings, memory: FleetMemory) -> None:
        self._live = live
        self._memory = memory
        self._applied = memory.settings()
        self._asked_revision = self._applied.revision
        self._refusal = ""

    async def ask(self, desired: pb.DesiredSettings) -> None:
        """Put desired settings in force, or note why not."""
        asked = AppliedSettings(desired.revision, dict(desired.values))
        self._asked_revision, self._refusal = asked.revision, ""
        if asked == self._applied:  # the broker keeps it, and says it again
            return
        try:
            require_newer(asked.revision, self._applied.revision)
            await self._live.lay_over(lambda overlay: replace(overlay, values=asked.values))
        except OutriderError as error:
            self._refusal = str(error)
        else:
            self._applied = asked
            self._memory.keep_settings(asked)

    def refuse(self, error: OutriderError) -> None:
        """Note that what was asked for could not be read."""
        self._asked_revision, self._refusal = 0, str(error)

    def report(self) -> pb.ReportedSettings:
        """What is in force, and what became of the latest wish."""
        is_refused = bool(self._refusal)
        return pb.ReportedSettings(
            revision=self._applied.revision,
            values=self._applied.values,
            asked_revision=self._asked_revision,
            outcome=pb.SETTINGS_OUTCOME_REFUSED if is_refused else pb.SETTINGS_OUTCOME_APPLIED,
            reason=self._refusal,
            restart_needed=self._live.restart_needed,
        )
