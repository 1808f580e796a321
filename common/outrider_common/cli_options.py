"""Command-line options made from the settings classes, for the commands of every role.

The one module of this package that needs click; only command-line modules may import it.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from outrider_common import log
from outrider_common.config import SECTIONS
from outrider_common.config_loading import FILE_VARIABLE, LoadedSettings, load_settings
from outrider_common.errors import ConfigError
from outrider_common.setting import Setting, all_settings, as_text
from outrider_common.settings.section import Section

_FILE_KEY: Final = "outrider_common.config_file"
"""Where a click context keeps the file that --config named."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def config_option(command: _Command) -> _Command:
    """Give a command `--config FILE`; `load` then finds the file, also in sub-commands."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        expose_value=False,
        callback=_remember_file,
        help=f"Read settings from this TOML file. [variable: {FILE_VARIABLE}]",
    )(command)


def settings_options(
    *sections: type[Section],
    passes_errors: bool = False,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one option for each setting of `sections`, `--config` and the log options.

    The command is called with the settings in force as the keyword argument `loaded`, a
    `LoadedSettings`, in place of the options' own values. Logging has been set up by then.

    Args:
        sections: section classes, such as `VerifierSettings`.
        passes_errors: if the settings cannot be used, call the command with the `ConfigError` as
            `loaded` instead of raising it.

    Raises:
        ValueError: two sections would have an option of the same name.
    """
    names = [name for name, section in SECTIONS.items() if section in sections or name == "log"]
    settings = {_parameter(setting): setting for setting in all_settings(names)}
    _refuse_namesakes(settings.values())

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def with_settings(*args: Any, **parameters: Any) -> Any:
            flags = {setting.name: parameters.pop(key) for key, setting in settings.items()}
            loaded = _loaded(flags, passes_errors=passes_errors)
            return command(*args, loaded=loaded, **parameters)

        options = [config_option, *map(_option, settings.values())]
        return functools.reduce(
            lambda inner, option: option(inner), reversed(options), with_settings
        )

    return decorate


def _loaded(flags: dict[str, object], *, passes_errors: bool) -> LoadedSettings | ConfigError:
    """The settings in force, with logging set up by them; or why there are none."""
    try:
        loaded = load(flags)
    except ConfigError as error:
        if not passes_errors:
            raise
        return error
    log.configure(loaded.settings.log.level, loaded.settings.log.format)
    return loaded


def load(flags: dict[str, object] | None = None) -> LoadedSettings:
    """The settings in force for the running command: its `--config`, the environment, `flags`.

    Raises:
        ConfigError: a setting is unknown or its value is not allowed.
    """
    file = click.get_current_context().meta.get(_FILE_KEY)
    return load_settings(file, os.environ, flags)


def _remember_file(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    if file is not None:
        context.meta[_FILE_KEY] = file


def _refuse_namesakes(settings: Iterable[Setting]) -> None:
    for flag, count in Counter(flag for setting in settings for flag in setting.flags).items():
        if count > 1:
            raise ValueError(f"{flag} would be an option of two sections")


def _option(setting: Setting) -> Callable[[_Command], _Command]:
    """An option without a value of its own, so that one can see whether it was given."""
    switch = (f"{setting.flag}/--no-{setting.flag[2:]}",)
    return click.option(
        *(switch if setting.is_switch else setting.flags),
        _parameter(setting),
        type=bool if setting.is_switch else str,
        default=None,
        metavar=None if setting.is_switch else setting.field.upper(),
        help=_help(setting),
    )


def _parameter(setting: Setting) -> str:
    return f"{setting.section}__{setting.field}"


def _help(setting: Setting) -> str:
    default = as_text(setting.default) or "not set"
    return f"{setting.description} [default: {default}; variable: {setting.variable}]"
