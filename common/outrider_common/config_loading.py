"""Where settings come from: defaults, a TOML file, environment variables, flags; the last one wins.

Reads that one file and nothing else: the environment is an argument. Every value is checked
wherever it stands, and keeps a note of where it came from.
"""

import dataclasses
import difflib
import tomllib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from outrider_common.config import SECTIONS, Settings
from outrider_common.errors import ConfigError
from outrider_common.setting import VARIABLE_PREFIX, Setting, all_settings

FILE_VARIABLE: Final = "OUTRIDER_CONFIG"
"""The environment variable that names the configuration file."""

DEFAULT_ORIGIN: Final = "default"
"""The origin of a value that nobody set."""

_Raw = TypeVar("_Raw")

_SETTINGS: Final = {setting.name: setting for setting in all_settings()}
_BY_VARIABLE: Final = {setting.variable: setting for setting in all_settings()}


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings in force.

    Attributes:
        settings: the values.
        origin: for each setting, by its full name such as `verifier.port`, where its value came
            from: `default`, the path of a file, the name of a variable, or a flag.
        file: the configuration file that was read, if any.
        flags: values from the command line, as `load_settings` took them.
    """

    settings: Settings
    origin: Mapping[str, str]
    file: Path | None
    flags: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def again(self, environment: Mapping[str, str]) -> "LoadedSettings":
        """Read the same file and put the layers together once more; see `load_settings`."""
        return load_settings(self.file, environment, self.flags)


@dataclass(frozen=True, slots=True)
class _Assignment:
    """A checked value for one setting, and where it was found."""

    setting: Setting
    value: object
    origin: str


def load_settings(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> LoadedSettings:
    """Put the layers together: defaults, then the file, then the environment, then the flags.

    Args:
        file: the configuration file. None: the one that `OUTRIDER_CONFIG` names, or else
            `outrider/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`, if it is there.
        environment: the environment variables, such as `os.environ`. An empty variable counts as
            not set.
        flags: values by full name, such as `verifier.port`; text is read as in a variable, and
            None counts as not given.

    Raises:
        ConfigError: a setting is unknown, a value is not allowed, or the file cannot be read.
    """
    environment = environment or {}
    path = _find_file(file, environment)
    assignments = [
        *(_read_file(path) if path else ()),
        *_read_environment(environment),
        *_read_flags(flags or {}),
    ]
    values: defaultdict[str, dict[str, object]] = defaultdict(dict)
    origin = dict.fromkeys(_SETTINGS, DEFAULT_ORIGIN)
    for assignment in assignments:
        setting = assignment.setting
        values[setting.section][setting.field] = assignment.value
        origin[setting.name] = assignment.origin
    return LoadedSettings(Settings.model_validate(values), origin, path, flags or {})


def _find_file(file: Path | None, environment: Mapping[str, str]) -> Path | None:
    if file is not None:
        return file
    if named := environment.get(FILE_VARIABLE):
        return Path(named)
    usual = _usual_file(environment)
    return usual if usual and usual.is_file() else None


def _usual_file(environment: Mapping[str, str]) -> Path | None:
    if directory := environment.get("XDG_CONFIG_HOME"):
        return Path(directory, "outrider", "config.toml")
    if home := environment.get("HOME"):
        return Path(home, ".config", "outrider", "config.toml")
    return None


def _read_file(path: Path) -> Iterator[_Assignment]:
    for section, fields in _parse_file(path).items():
        if section not in SECTIONS:
            raise _unknown(section, str(path), (*SECTIONS, *_SETTINGS))
        if not isinstance(fields, dict):
            raise ConfigError(f"{section} (from {path}) must be a table: write it as [{section}].")
        for field, value in fields.items():
            setting = _lookup(f"{section}.{field}", str(path), _SETTINGS)
            yield _assign(setting, value, setting.from_value, origin=str(path))


def _parse_file(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"The configuration file {path} cannot be read ({reason}): name one that can be, "
            f"with --config or {FILE_VARIABLE}."
        ) from error
    except ValueError as error:  # Both of the TOML parser and of UTF-8.
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error


def _read_environment(environment: Mapping[str, str]) -> Iterator[_Assignment]:
    for variable, text in environment.items():
        if not variable.startswith(VARIABLE_PREFIX) or variable == FILE_VARIABLE:
            continue
        setting = _lookup(variable, "the environment", _BY_VARIABLE)
        if text:
            yield _assign(setting, text, setting.from_text, origin=variable)


def _read_flags(flags: Mapping[str, object]) -> Iterator[_Assignment]:
    for name, value in flags.items():
        setting = _lookup(name, "the command line", _SETTINGS)
        if isinstance(value, str):
            yield _assign(setting, value, setting.from_text, origin=setting.flag)
        elif value is not None:
            yield _assign(setting, value, setting.from_value, origin=setting.flag)


def _lookup(name: str, origin: str, known: Mapping[str, Setting]) -> Setting:
    if name not in known:
        raise _unknown(name, origin, tuple(known))
    return known[name]


def _assign(
    setting: Setting, value: _Raw, read: Callable[[_Raw], object], origin: str
) -> _Assignment:
    try:
        return _Assignment(setting, read(value), origin)
    except ValueError as error:
        raise ConfigError(f"{setting.name} is {value!r} (from {origin}), but {error}.") from None


def _unknown(name: str, origin: str, known: Collection[str]) -> ConfigError:
    """The error for a name that no setting has, with the name that was probably meant."""
    meant = [other for other in known if other.endswith(f".{name}")] or difflib.get_close_matches(
        name, known, n=1, cutoff=0.75
    )
    remedy = (
        f"did you mean {meant[0]}?" if meant else "remove it; docs/configuration.md lists them all."
    )
    return ConfigError(f"There is no setting {name} (from {origin}); {remedy}")
