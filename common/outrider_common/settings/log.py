"""The settings of the log."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field

from outrider_common.settings.section import Section

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]

LogFormat: TypeAlias = Literal["text", "json", "journal"]


def _in_lower_case(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


class LogSettings(Section):
    """Logging, to standard error."""

    level: Annotated[LogLevel, BeforeValidator(_in_lower_case)] = Field(
        default="warning", description="The least severe events that are logged."
    )
    format: Annotated[LogFormat, BeforeValidator(_in_lower_case)] = Field(
        default="text",
        description=(
            "Lines for people, one JSON object for each event, or lines for the journal of "
            "systemd, which knows the time itself and reads the level."
        ),
    )
