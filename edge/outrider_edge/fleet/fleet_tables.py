"""How devices look at a terminal.

Knows nothing of how they are found out.
"""

from collections.abc import Iterable
from typing import Final

from rich.table import Table
from rich.text import Text

from outrider_edge.fleet.devices import Device
from outrider_edge.render import safe_text

_MS: Final = 1000

WIDTH: Final = 160
"""Of the table where it does not go to a terminal."""


def table_of_devices(devices: Iterable[Device]) -> Table:
    """One line for each device; what does not fit is folded, and names are not."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("device", "status"):
        table.add_column(heading, no_wrap=True)
    for heading in ("release", "verifier", "drafted by"):
        table.add_column(heading, overflow="fold")
    for heading in ("accept", "tokens/s", "trip", "rev"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("rollout", overflow="fold")
    for device in devices:
        table.add_row(*(Text(safe_text(cell)) for cell in _cells(device)))
    return table


def _cells(device: Device) -> list[str]:
    state, figures = device.state, device.telemetry
    return [
        device.name,
        device.status,
        state.software_version,
        state.verifier,
        state.bundle,
        f"{figures.acceptance_rate:.2f}" if figures.HasField("acceptance_rate") else "",
        f"{figures.tokens_per_s:.1f}" if figures.HasField("tokens_per_s") else "",
        f"{figures.round_trip_s * _MS:.0f} ms" if figures.HasField("round_trip_s") else "",
        str(device.settings.revision),
        " ".join(filter(None, (device.drafter.name, device.stage))),
    ]
