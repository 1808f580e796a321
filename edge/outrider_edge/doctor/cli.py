"""`outrider doctor`: prints what each check finds, and what to do."""

import asyncio
import json
from collections.abc import Callable
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from outrider_common.cli_options import settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import ConfigError
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.doctor.findings import Finding, Grade
from outrider_edge.render import safe_text

_STYLES: Final = {
    Grade.PASS: "green",
    Grade.WARN: "yellow",
    Grade.FAIL: "bold red",
    Grade.SKIP: "dim",
}
_NAME_WIDTH: Final = 11


@click.command(name="doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@settings_options(
    EdgeSettings,
    SamplingSettings,
    DaemonSettings,
    ModelSettings,
    FleetSettings,
    passes_errors=True,
)
@click.pass_context
def doctor(context: click.Context, as_json: bool, loaded: LoadedSettings | ConfigError) -> None:
    """Check everything that the edge needs, and say what to do; status 1 if something fails."""
    console = Console()
    if as_json:
        findings = asyncio.run(_examine(loaded, lambda _: None, lambda _: None))
        click.echo(json.dumps(_document(findings), indent=2))
    else:
        with console.status("") as status:
            findings = asyncio.run(
                _examine(
                    loaded,
                    lambda name: status.update(f"{name} ..."),
                    lambda finding: _show(console, finding),
                )
            )
    if any(finding.grade is Grade.FAIL for finding in findings):
        context.exit(1)


async def _examine(
    loaded: LoadedSettings | ConfigError,
    on_begin: Callable[[str], None],
    on_finding: Callable[[Finding], None],
) -> list[Finding]:
    from outrider_edge.doctor.checks import CHECKS  # the model runtime takes a while to import
    from outrider_edge.doctor.examination import examine
    from outrider_edge.doctor.patient import Patient

    findings = []
    async for finding in examine(Patient(loaded), CHECKS, on_begin):
        on_finding(finding)
        findings.append(finding)
    return findings


def _document(findings: list[Finding]) -> dict[str, object]:
    is_fine = all(finding.grade is not Grade.FAIL for finding in findings)
    return {"is_fine": is_fine, "findings": [finding.as_json() for finding in findings]}


def _show(console: Console, finding: Finding) -> None:
    """A line, or a paragraph beside the name of the check."""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=4)
    row.add_column(width=_NAME_WIDTH)
    row.add_column(overflow="fold")
    row.add_row(
        Text(finding.grade.value, style=_STYLES[finding.grade]),
        Text(finding.check),
        Text(safe_text(finding.sentence, console.encoding)),
    )
    console.print(row)
