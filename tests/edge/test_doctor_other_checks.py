"""The clock of this machine, and the daemon beside it."""

import dataclasses
from typing import Any

import pytest
from api_client import a_serving
from fake_runtime import FakeRuntime
from http_daemon import a_daemon_client

from outrider_common.config_loading import load_settings
from outrider_edge.doctor.examination import Check, examine
from outrider_edge.doctor.findings import Finding, Grade
from outrider_edge.doctor.other_checks import OTHER_CHECKS, judge_clock
from outrider_edge.doctor.patient import Patient

NOW = 1_800_000_000.0  # in 2027


@pytest.mark.parametrize(
    ("now", "grade", "says"),
    [
        ((NOW + 10.001, 60.0), Grade.PASS, "+1.0 ms"),
        ((NOW + 3610.0, 60.0), Grade.WARN, "+3600.0 s wrong in 10.0 s; let a time service"),
        ((NOW - 30.0, 60.0), Grade.WARN, "-40.0 s wrong"),
        ((10.0, 60.0), Grade.WARN, "it is 1970; set it"),
    ],
)
def test_a_clock_that_jumps_or_was_never_set_is_found(
    now: tuple[float, float], grade: Grade, says: str
) -> None:
    verdict = judge_clock((NOW, 50.0), now)
    assert verdict.grade is grade
    assert says in verdict.sentence


async def of_daemon(port: int) -> Finding:
    loaded = load_settings(flags={"daemon.port": port})
    check: Check[Patient] = dataclasses.replace(OTHER_CHECKS[0], needs=())
    (finding,) = [finding async for finding in examine(Patient(loaded), [check])]
    return finding


@pytest.mark.parametrize(
    ("runtime", "grade", "says"),
    [(FakeRuntime(), Grade.PASS, "for fake"), (None, Grade.WARN, "not ready: The daemon is start")],
)
async def test_a_running_daemon_is_asked_how_it_is(runtime: Any, grade: Grade, says: str) -> None:
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        finding = await of_daemon(client.address.port)
    assert finding.grade is grade
    assert says in finding.sentence


async def test_a_daemon_of_another_release_is_to_be_restarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider_edge.daemon_status.version", lambda _name: "0.0.9")
    async with a_daemon_client(a_serving(FakeRuntime(), port=0)) as client:
        finding = await of_daemon(client.address.port)
    assert finding.grade is Grade.WARN
    assert "release 0.0.9" in finding.sentence


async def test_no_daemon_is_no_fault() -> None:
    assert (await of_daemon(1)).grade is Grade.SKIP
