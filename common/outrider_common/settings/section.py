"""What all sections of the settings are made of."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

AcceptanceModeName: TypeAlias = Literal["exact", "rejection", "typical", "relaxed"]

ALLOWED: Final = "x-allowed"
"""The JSON schema key under which a field says in words what it allows."""

DEFAULT_PORT: Final = 7411

DEFAULT_MODEL: Final = "smollm2-135m"


def _with_home_spelled_out(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("there is no such home directory") from error


FilePath: TypeAlias = Annotated[Path, AfterValidator(_with_home_spelled_out)]
"""A path that may begin with ~."""


def file_field(description: str) -> Any:
    """A setting that names a file, or none."""
    return Field(
        default=None, description=description, json_schema_extra={ALLOWED: "the path of a file"}
    )


class Section(BaseModel):
    """Base of all sections: immutable, and without fields that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")
