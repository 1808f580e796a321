"""The `outrider config` command: shows the settings in force and where each one came from."""

import json
from collections.abc import Callable
from typing import Final

import click

from outrider_common.cli_options import config_option, load
from outrider_common.config_loading import LoadedSettings
from outrider_common.setting import Setting, all_settings, as_json, as_text


@click.group()
def config() -> None:
    """Show the settings in force."""


@config.command()
@click.option("--format", "form", type=click.Choice(["text", "json", "toml"]), default="text")
@config_option
def show(form: str) -> None:
    """Print every setting, its value, and where the value came from.

    The TOML form can be used as a configuration file.
    """
    click.echo(_FORMS[form](load()))


def _as_lines(loaded: LoadedSettings) -> str:
    """Three columns: name, value, origin."""
    rows = [
        (setting.name, as_text(_value(loaded, setting)) or "(not set)", loaded.origin[setting.name])
        for setting in all_settings()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}" for name, value, origin in rows
    )


def _as_json(loaded: LoadedSettings) -> str:
    document: dict[str, dict[str, object]] = {}
    for setting in all_settings():
        document.setdefault(setting.section, {})[setting.field] = {
            "value": as_json(_value(loaded, setting)),
            "origin": loaded.origin[setting.name],
        }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _as_toml(loaded: LoadedSettings) -> str:
    """A configuration file; what is not set stands there as a comment."""
    lines: list[str] = []
    for setting in all_settings():
        heading = f"[{setting.section}]"
        if heading not in lines:
            lines.append(heading)
        lines.append(_toml_assignment(setting.field, _value(loaded, setting)))
    return "\n".join(lines)


def _toml_assignment(field: str, value: object) -> str:
    if value is None:
        return f"# {field} is not set"
    # JSON's spelling of text, numbers, truth and lists is TOML's, but for this one character.
    spelling = json.dumps(as_json(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{field} = {spelling}"


def _value(loaded: LoadedSettings, setting: Setting) -> object:
    return getattr(getattr(loaded.settings, setting.section), setting.field)


_FORMS: Final[dict[str, Callable[[LoadedSettings], str]]] = {
    "text": _as_lines,
    "json": _as_json,
    "toml": _as_toml,
}
