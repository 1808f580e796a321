"""All settings of all roles, by section."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_common.settings.log import LogSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_common.settings.section import Section
from outrider_common.settings.telemetry import TelemetrySettings
from outrider_common.settings.verifier import VerifierSettings


class Settings(BaseModel):
    """All settings of all roles."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verifier: VerifierSettings = VerifierSettings()
    edge: EdgeSettings = EdgeSettings()
    daemon: DaemonSettings = DaemonSettings()
    sampling: SamplingSettings = SamplingSettings()
    models: ModelSettings = ModelSettings()
    log: LogSettings = LogSettings()
    fleet: FleetSettings = FleetSettings()
    telemetry: TelemetrySettings = TelemetrySettings()


SECTIONS: Final[dict[str, type[Section]]] = {
    name: type(section) for name, section in Settings() if isinstance(section, Section)
}
"""The class of each section, under the section's name, in the order of the documentation."""
