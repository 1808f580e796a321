"""One setting: its names, what it allows, and how a value is read and written as text.

Made from the fields of the section classes. Knows nothing of where a value comes from.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from outrider_common.config import SECTIONS
from outrider_common.settings.section import ALLOWED, Section
from outrider_common.settings.verifier import OTHER_FLAG

VARIABLE_PREFIX: Final = "OUTRIDER_"

_SECTIONS_NAMED_IN_FLAGS: Final = frozenset({"fleet", "log"})
"""Sections whose field names alone would say too little on a command line."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of one section.

    Attributes:
        section: the name of its section, such as `verifier`.
        field: the name of its field, such as `num_threads`.
    """

    section: str
    field: str

    @property
    def name(self) -> str:
        """What it is called everywhere, such as `verifier.num_threads`."""
        return f"{self.section}.{self.field}"

    @property
    def variable(self) -> str:
        """Its environment variable, such as `OUTRIDER_VERIFIER_NUM_THREADS`."""
        return f"{VARIABLE_PREFIX}{self.section}_{self.field}".upper()

    @property
    def flag(self) -> str:
        """Its command-line option, such as `--num-threads`."""
        prefix = f"{self.section}_" if self.section in _SECTIONS_NAMED_IN_FLAGS else ""
        return f"--{prefix}{self.field}".replace("_", "-")

    @property
    def flags(self) -> tuple[str, ...]:
        """All its command-line options: `flag`, and another name for it if there is one."""
        other = _schema(self._section_class)[self.field].get(OTHER_FLAG)
        return (self.flag, str(other)) if other else (self.flag,)

    @property
    def default(self) -> object:
        """Its value where nobody says another."""
        return self._section_class.model_fields[self.field].default

    @property
    def description(self) -> str:
        """What it does, in whole sentences."""
        return self._section_class.model_fields[self.field].description or ""

    @property
    def allowed(self) -> str:
        """Which values it may have, in words that can follow 'must be'."""
        return _in_words(_schema(self._section_class)[self.field])

    @property
    def is_switch(self) -> bool:
        """Whether it is either true or false."""
        return isinstance(self.default, bool)

    @property
    def is_list(self) -> bool:
        """Whether it holds several values, which text separates by commas."""
        return isinstance(self.default, tuple)

    def from_text(self, text: str) -> object:
        """Read a value from a variable or a flag.

        Raises:
            ValueError: this is none of the allowed values; the message says which are.
        """
        if self.is_list:
            return self.from_value([part.strip() for part in text.split(",") if part.strip()])
        return self._read(lambda: self._section_class.model_validate_strings({self.field: text}))

    def from_value(self, value: object) -> object:
        """Read a value that has a type already, such as one from a TOML file.

        The type must fit: the text "7411" is no port, and `true` is no number.

        Raises:
            ValueError: this is none of the allowed values; the message says which are.
        """
        return self._read(
            lambda: self._section_class.model_validate_json(
                json.dumps({self.field: as_json(value)}), strict=True
            )
        )

    @property
    def _section_class(self) -> type[Section]:
        return SECTIONS[self.section]

    def _read(self, read: Callable[[], Section]) -> object:
        try:
            return getattr(read(), self.field)
        except (ValidationError, TypeError):  # TypeError: JSON has nothing like this type.
            raise ValueError(f"it must be {self.allowed}") from None


def all_settings(sections: Iterable[str] = tuple(SECTIONS)) -> tuple[Setting, ...]:
    """Every setting of the named sections, or of all, in the order of the documentation."""
    return tuple(
        Setting(section, field) for section in sections for field in SECTIONS[section].model_fields
    )


def as_json(value: object) -> object:
    """A value of a setting as the type of JSON and TOML that comes nearest."""
    match value:
        case tuple():
            return [as_json(item) for item in value]
        case Path():
            return str(value)
        case _:
            return value


def as_text(value: object) -> str:
    """A value of a setting as a variable or flag would spell it; empty if it is not set."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(as_text(item) for item in value)
        case _:
            return str(value)


@functools.cache
def _schema(section_class: type[Section]) -> Mapping[str, Mapping[str, Any]]:
    """The JSON schema of each field."""
    properties: dict[str, dict[str, Any]] = section_class.model_json_schema()["properties"]
    return properties


def _in_words(schema: Mapping[str, Any]) -> str:
    """What a field allows: its own words for it, or its JSON schema put into words."""
    if ALLOWED in schema:
        return str(schema[ALLOWED])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    match schema["type"]:
        case "boolean":
            return "true or false"
        case "integer":
            return f"an integer{_bounds_in_words(schema)}"
        case "number":
            return f"a number{_bounds_in_words(schema)}"
        case _:
            return "text that is not empty"


_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


def _bounds_in_words(schema: Mapping[str, Any]) -> str:
    """The bounds of a number, such as ' from 1 to 3' or ', above 0 and at most 1'."""
    if "minimum" in schema and "maximum" in schema:
        return f" from {schema['minimum']} to {schema['maximum']}"
    bounds = [f"{words} {schema[key]}" for key, words in _BOUNDS.items() if key in schema]
    return f", {' and '.join(bounds)}" if bounds else ""
