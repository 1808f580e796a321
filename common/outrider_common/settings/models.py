"""The settings of the model store."""

from pydantic import Field

from outrider_common.settings.section import ALLOWED, FilePath, Section


class ModelSettings(Section):
    """Model files: where they are kept."""

    cache_dir: FilePath | None = Field(
        default=None,
        description=(
            "Directory of the model store. Not set: $XDG_CACHE_HOME/outrider, or else "
            "~/.cache/outrider."
        ),
        json_schema_extra={ALLOWED: "a directory"},
    )
