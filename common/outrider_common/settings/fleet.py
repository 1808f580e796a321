"""The settings of a fleet over MQTT."""

from typing import Annotated, Final

from pydantic import Field

from outrider_common.settings.section import ALLOWED, FilePath, Section

DEVICE_ID: Final = r"^[A-Za-z0-9._-]{1,64}$"
"""What the name of a device in a fleet looks like: it is a part of topics."""


class FleetSettings(Section):
    """The fleet: steering many edge daemons over MQTT."""

    broker: (
        Annotated[str, Field(pattern=r"^mqtts?://(\[[0-9a-fA-F:.]+\]|[^\s/:@\[\]]+)(:\d{1,5})?$")]
        | None
    ) = Field(
        default=None,
        description=(
            "The MQTT broker; mqtts is over TLS. Not set: the daemon is steered by nobody."
        ),
        json_schema_extra={ALLOWED: "an address of the form mqtt://host:port or mqtts://host:port"},
    )
    ca_file: FilePath | None = Field(
        default=None,
        description=(
            "Certificates, in PEM, by which a broker over TLS is known, and beside the system's a "
            "server with drafters, too. Not set: the system's alone."
        ),
        json_schema_extra={ALLOWED: "a path"},
    )
    username: Annotated[str, Field(min_length=1)] | None = Field(
        default=None,
        description="Who the broker shall take this device, or this operator, for.",
        json_schema_extra={ALLOWED: "text that is not empty"},
    )
    password_file: FilePath | None = Field(
        default=None,
        description="A file with the password for the broker in its first line.",
        json_schema_extra={ALLOWED: "a path"},
    )
    device_id: Annotated[str, Field(pattern=DEVICE_ID)] | None = Field(
        default=None,
        description="The name of this device in its fleet. Not set: the name of the machine.",
        json_schema_extra={ALLOWED: "up to 64 letters, digits and '._-'"},
    )
    topic_prefix: str = Field(
        default="outrider",
        pattern=r"^[^\s+#$/]+(/[^\s+#$/]+)*$",
        max_length=128,
        description="What all topics of the fleet begin with.",
        json_schema_extra={ALLOWED: "a topic without '+', '#' and '$'"},
    )
    telemetry_interval_s: float = Field(
        default=60.0,
        ge=1,
        le=86400,
        allow_inf_nan=False,
        description="Seconds between two reports of the device's figures.",
    )
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")] | None = Field(
        default=None,
        description=(
            "The Ed25519 key by which the operator's drafters are known, as 'outrider fleet key' "
            "prints it. Not set: drafters are not taken from the fleet."
        ),
        json_schema_extra={ALLOWED: "the 44 characters of a raw Ed25519 public key in base64"},
    )
    max_bundle_mib: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="The largest drafter bundle, in MiB, that is taken from the fleet.",
    )
