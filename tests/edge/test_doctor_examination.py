"""Checks run one after another, and none can stop the others."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest

from outrider_common.errors import UnavailableError
from outrider_edge.doctor.checks import CHECKS
from outrider_edge.doctor.examination import Check, Verdict, examine, in_thread
from outrider_edge.doctor.findings import Finding, Grade

Log = list[str]
Look = Callable[[Log], Awaitable[Verdict]]


def looks(verdict: Verdict | Exception) -> Look:
    async def look(log: Log) -> Verdict:
        if isinstance(verdict, Exception):
            raise verdict
        log.append(verdict.sentence)
        return verdict

    return look


async def hangs(_log: Log) -> Verdict:
    await asyncio.Event().wait()
    raise AssertionError


async def findings(*checks: Check[Log], log: Log | None = None) -> list[Finding]:
    return [finding async for finding in examine([] if log is None else log, checks)]


async def test_every_check_has_its_finding_with_its_figures() -> None:
    found = await findings(
        Check("one", looks(Verdict.good("Fine.", size=2.0))),
        Check("two", looks(Verdict.doubtful("Hm; do that."))),
        Check("three", looks(Verdict.absent("Not set up."))),
    )
    assert found == [
        Finding("one", Grade.PASS, "Fine.", {"size": 2.0}),
        Finding("two", Grade.WARN, "Hm; do that."),
        Finding("three", Grade.SKIP, "Not set up."),
    ]


async def test_an_error_for_people_is_the_finding_and_the_others_go_on() -> None:
    found = await findings(
        Check("one", looks(UnavailableError("No verifier; start one."))),
        Check("two", looks(Verdict.good("Fine."))),
    )
    assert [(f.grade, f.sentence) for f in found] == [
        (Grade.FAIL, "No verifier; start one."),
        (Grade.PASS, "Fine."),
    ]


async def test_a_defect_is_said_to_be_one() -> None:
    (found,) = await findings(Check("one", looks(KeyError("x"))))
    assert found.grade is Grade.FAIL
    assert "'one' failed itself (KeyError: 'x'); this is a defect" in found.sentence


async def test_a_check_that_hangs_is_given_up_by_itself_and_named() -> None:
    found = await findings(
        Check("stuck", hangs, limit_s=0.01, if_it_hangs="look at the cable."),
        Check("two", looks(Verdict.good("Fine."))),
    )
    assert found[0].sentence == (
        "The check 'stuck' did not come to an end in 0.01 s; look at the cable."
    )
    assert [finding.grade for finding in found] == [Grade.FAIL, Grade.PASS]


@pytest.mark.parametrize("verdict", [Verdict.bad("Broken."), Verdict.absent("None.")])
async def test_what_needs_something_that_is_not_there_is_not_run(verdict: Verdict) -> None:
    log: Log = []
    found = await findings(
        Check("base", looks(verdict)),
        Check("doubt", looks(Verdict.doubtful("Slow; wait."))),
        Check("top", looks(Verdict.good("Run.")), needs=("base", "doubt")),
        Check("above", looks(Verdict.good("Run.")), needs=("top",)),
        log=log,
    )
    assert "Run." not in log
    assert [finding.grade for finding in found[2:]] == [Grade.SKIP, Grade.SKIP]
    assert found[2].sentence == "Not checked, for this needs: base."


async def test_ctrl_c_ends_the_examination() -> None:
    examining = asyncio.create_task(findings(Check("stuck", hangs)))
    await asyncio.sleep(0)
    examining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await examining


async def test_blocking_work_does_not_hold_up_the_loop_and_its_errors_come_out() -> None:
    may_end = threading.Event()
    working = asyncio.create_task(in_thread(may_end.wait))
    await asyncio.sleep(0)
    assert not working.done()
    may_end.set()
    assert await working
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_blocking_work_that_hangs_is_left_behind() -> None:
    may_end = threading.Event()

    async def blocks(_log: Log) -> Verdict:
        await in_thread(may_end.wait)
        raise AssertionError

    (found,) = await findings(Check("stuck", blocks, limit_s=0.01))
    assert found.grade is Grade.FAIL
    may_end.set()


def test_what_a_check_needs_stands_before_it() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for i, check in enumerate(CHECKS):
        assert set(check.needs) <= set(names[:i])
