"""What `outrider edge status` shows of a running daemon: asks it, and puts the answer in a table.

Knows nothing of how a daemon comes by its figures.
"""

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from outrider_common.errors import OutriderError, UnavailableError
from outrider_edge.daemon_client import DaemonClient, NoDaemonError
from outrider_edge.render import safe_text

Json = dict[str, Any]

READY: Final = "ready"
WAITING: Final = "waiting"

_MS: Final = 1000


async def ask_status(client: DaemonClient) -> Json:
    """The daemon's `/status`; that it is ready counts only if the verifier answers it just now.

    Raises:
        NoDaemonError: no daemon is there.
        OutriderError: what it said instead.
    """
    status = await client.get("/status") | {"address": str(client.address)}
    if status.get("state") == READY:
        try:
            await client.get("/ready")
        except NoDaemonError:
            raise
        except UnavailableError as error:
            status |= {"state": WAITING, "waiting_for": str(error)}
    return status


def table_of(status: Json) -> Table:
    """The status for people.

    Raises:
        OutriderError: the daemon is of another release and says other things.
    """
    try:
        rows = [*_rows_of_state(status), *_rows_of_figures(status)]
    except (KeyError, TypeError, ValueError) as error:
        raise OutriderError(
            f"The daemon's status lacks what this release expects ({error}); restart the daemon "
            "with this release, or ask with --json."
        ) from error
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in rows:
        if value is not None:
            table.add_row(Text(name, style="dim"), Text(safe_text(value)))
    return table


def _rows_of_state(status: Json) -> list[tuple[str, str | None]]:
    since = datetime.fromtimestamp(status["up_since"])
    up = timedelta(seconds=int(max(0.0, time.time() - status["up_since"])))
    return [
        ("state", status["state"]),
        ("because", status["waiting_for"]),
        ("daemon", f"{status['address']}, release {status['version']}, process {status['pid']}"),
        ("up since", f"{since:%Y-%m-%d %H:%M:%S}, for {up}"),
        ("verifier", status["verifier"]),
        *((f"  {one['address']}", _of_verifier(one)) for one in status["verifiers"]),
        ("model", status["model"]),
        ("drafted by", f"{status['bundle']} ({', '.join(status['proposers'])})"),
        ("policy", status["policy"]),
    ]


def _rows_of_figures(status: Json) -> list[tuple[str, str | None]]:
    total, latest = status["total"], status["latest"]
    estimates: Mapping[str, Any] = status["estimates"] or {}
    return [
        (
            "answers",
            f"{status['num_running']} running of {status['max_running']}, "
            f"{total['num_answers']} complete",
        ),
        ("tokens", f"{total['num_tokens']}, {total['num_accepted_tokens']} of them drafted"),
        ("rests", f"{total['num_rests']}"),
        ("resumes", f"{total['num_resumes']}"),
        (f"latest {latest['num_answers']}", _pace(latest)),
        ("round trip", _in_ms(estimates.get("round_trip_s"))),
        ("pass", _in_ms(estimates.get("pass_s"))),
        ("draft step", _in_ms(estimates.get("draft_s"))),
    ]


def _pace(latest: Json) -> str | None:
    parts = [
        f"{latest[name]:.3g} {words}"
        for name, words in (
            ("tokens_per_s", "tokens/s"),
            ("tokens_per_pass", "tokens a pass"),
            ("acceptance_rate", "acceptance"),
        )
        if latest[name] is not None
    ]
    return ", ".join(parts) or None


def _of_verifier(verifier: Json) -> str:
    parts = [
        verifier["state"],
        verifier["model"],
        _in_ms(verifier["round_trip_s"]),
        f"{verifier['num_open']} sessions of ours",
        verifier["why"],
    ]
    return ", ".join(part for part in parts if part)


def _in_ms(seconds: float | None) -> str | None:
    return None if seconds is None else in_ms(seconds)


def in_ms(seconds: float) -> str:
    """A time that was estimated, no finer than estimates are."""
    return f"{seconds * _MS:.1f} ms" if seconds * _MS >= 1 else "below 1 ms"
