"""The settings of traces."""

from pydantic import Field

from outrider_common.settings.section import ALLOWED, Section


class TelemetrySettings(Section):
    """Distributed traces, by OpenTelemetry; off unless an address is given."""

    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description=(
            "Where spans are sent, such as http://localhost:4318/v1/traces (OTLP over HTTP). Not "
            "set: there are none. They hold counts, names and times, but no text."
        ),
        json_schema_extra={ALLOWED: "an address that begins with http:// or https://"},
    )
    sample_rate: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="The share of requests that are traced; who is asked follows who asks.",
    )
