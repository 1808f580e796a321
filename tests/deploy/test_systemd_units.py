"""The systemd units: read by systemd, hardened, and fit for the commands and settings."""

import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from outrider_cloud.cli import verifier
from outrider_common.config_loading import load_settings
from outrider_common.setting import all_settings
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.cli import edge

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
COMMANDS = {"outrider-edge": edge, "outrider-verifier": verifier}

MOST_EXPOSURE = {"outrider-edge": 1.2, "outrider-verifier": 1.4}
"""Of 10, by the weights of `systemd-analyze security`; a unit without hardening has 9.6."""


def unit(name: str) -> Path:
    return UNITS / f"{name}.service"


def values(name: str, key: str) -> list[str]:
    return re.findall(rf"(?m)^{key}=(.*)$", unit(name).read_text())


@pytest.mark.parametrize("name", COMMANDS)
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    program = tmp_path / "outrider"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / f"{name}.service"
    copy.write_text(unit(name).read_text().replace("/usr/bin/outrider", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_service_is_exposed_to_little(name: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit(name)],
        capture_output=True,
        text=True,
        check=True,
    )
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None
    assert float(exposure[1]) <= MOST_EXPOSURE[name]


@pytest.mark.parametrize(("name", "group"), COMMANDS.items())
def test_the_command_of_a_unit_exists(name: str, group: click.Group) -> None:
    (command,) = values(name, "ExecStart")
    program, role, verb, *options = command.split()
    assert (program, role) == ("/usr/bin/outrider", group.name)
    known = {option for parameter in group.commands[verb].params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_the_variables_of_a_unit_are_settings(name: str) -> None:
    variables = dict(line.split("=", 1) for line in values(name, "Environment"))
    ours = {setting.variable: setting for setting in all_settings()}
    for variable, value in variables.items():
        if variable.startswith("OUTRIDER_"):
            ours[variable].from_text(value)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_unit_that_waits_for_a_word_has_a_watchdog(name: str) -> None:
    assert values(name, "Type") == ["notify"]
    assert values(name, "WatchdogSec")


def test_the_settings_that_are_delivered_can_be_read() -> None:
    file = UNITS / "outrider.toml"
    loaded = load_settings(file)
    assert loaded.settings.edge.verifier == "verifier.example:7411"
    fleet = re.sub(r"(?m)^# (?=\[fleet|\w+ =)", "", file.read_text())
    assert tomllib.loads(fleet)["fleet"].keys() <= FleetSettings.model_fields.keys()
    FleetSettings(**tomllib.loads(fleet)["fleet"])
