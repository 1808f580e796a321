"""Checks of what is beside the edge: the clock, a running daemon, MQTT."""

from datetime import UTC, datetime
from importlib.metadata import version
from time import monotonic, time
from typing import Final

from outrider_edge.daemon_client import DaemonAddress, DaemonClient, NoDaemonError
from outrider_edge.doctor.examination import Check, Verdict, in_thread
from outrider_edge.doctor.patient import Patient
from outrider_edge.fleet.access_check import check_access
from outrider_edge.fleet.device_name import device_name

MOST_DRIFT_S: Final = 0.5
_FIRST_YEAR: Final = 2026
_MS: Final = 1000


async def _daemon(patient: Patient) -> Verdict:
    address = DaemonAddress.of(patient.settings.daemon)
    try:
        status = await DaemonClient(address).get("/status")
    except NoDaemonError:
        return Verdict.absent(f"None runs at {address}; 'outrider edge serve' starts one.")
    ours, theirs = version("outrider"), status.get("version")
    if theirs != ours:
        return Verdict.doubtful(
            f"The daemon at {address} has release {theirs}, this one is {ours}; restart it."
        )
    if status.get("state") != "ready":
        return Verdict.doubtful(f"The daemon at {address} is not ready: {status['waiting_for']}")
    return Verdict.good(f"One runs at {address}, for {status['model']}.")


async def _clock(patient: Patient) -> Verdict:
    return judge_clock(patient.began_at, (time(), monotonic()))


def judge_clock(began: tuple[float, float], now: tuple[float, float]) -> Verdict:
    """Whether the wall clock is plausible and runs as fast as the monotonic one.

    Args:
        began: wall and monotonic clock at first.
        now: likewise, now.
    """
    wall_s, steady_s = now[0] - began[0], now[1] - began[1]
    year = datetime.fromtimestamp(now[0], UTC).year
    if year < _FIRST_YEAR:
        return Verdict.doubtful(
            f"The clock says that it is {year}; set it, or logs cannot be compared with the "
            "verifier's."
        )
    if abs(wall_s - steady_s) > MOST_DRIFT_S:
        return Verdict.doubtful(
            f"The clock went {wall_s - steady_s:+.1f} s wrong in {steady_s:.1f} s; let a time "
            "service keep it, or logs cannot be compared with the verifier's.",
            drift_s=wall_s - steady_s,
        )
    return Verdict.good(
        f"It moved {(wall_s - steady_s) * _MS:+.1f} ms against the monotonic clock in "
        f"{steady_s:.1f} s; the verifier states no time to compare.",
        drift_s=wall_s - steady_s,
    )


async def _mqtt(patient: Patient) -> Verdict:
    settings = patient.settings.fleet
    if settings.broker is None:
        return Verdict.absent("Not set up; set fleet.broker to have this device steered over MQTT.")
    device = device_name(settings)
    seconds = await in_thread(lambda: check_access(settings, device))
    return Verdict.good(
        f"The broker at {settings.broker} takes {device!r} and acknowledges in "
        f"{seconds * _MS:.1f} ms.",
        acknowledged_s=seconds,
    )


OTHER_CHECKS: Final = (
    Check("daemon", _daemon, needs=("settings",)),
    Check("clock", _clock),
    Check("MQTT", _mqtt, needs=("settings",)),
)
