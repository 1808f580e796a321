"""Runs checks one after another, each within its own time.

A check that fails, hangs or has a defect is a finding, and the others go on. Knows nothing of what
is checked.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from outrider_common.errors import OutriderError
from outrider_edge.doctor.findings import Finding, Grade

_Patient = TypeVar("_Patient")
_Result = TypeVar("_Result")

USUAL_LIMIT_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check says; its name is added.

    Attributes: see `Finding`.
    """

    grade: Grade
    sentence: str
    figures: dict[str, float]

    @classmethod
    def good(cls, sentence: str, **figures: float) -> "Verdict":
        """All is well."""
        return cls(Grade.PASS, sentence, figures)

    @classmethod
    def doubtful(cls, sentence: str, **figures: float) -> "Verdict":
        """It works, but could be better; the sentence says how."""
        return cls(Grade.WARN, sentence, figures)

    @classmethod
    def bad(cls, sentence: str, **figures: float) -> "Verdict":
        """It does not work; the sentence says what to do."""
        return cls(Grade.FAIL, sentence, figures)

    @classmethod
    def absent(cls, sentence: str) -> "Verdict":
        """There is nothing to check."""
        return cls(Grade.SKIP, sentence, {})


@dataclass(frozen=True, slots=True)
class Check(Generic[_Patient]):
    """One thing that can be looked at.

    Attributes:
        name: for people, in a word or two.
        look: looks at it; what later checks need, it leaves with the patient. An `OutriderError`
            that it raises is its finding.
        needs: names of checks without whose success this one has no sense.
        limit_s: how long it may take.
        if_it_hangs: what to do then, as the end of a sentence.
    """

    name: str
    look: Callable[[_Patient], Awaitable[Verdict]]
    needs: tuple[str, ...] = ()
    limit_s: float = USUAL_LIMIT_S
    if_it_hangs: str = "try again when the machine has less to do."


async def examine(
    patient: _Patient,
    checks: Sequence[Check[_Patient]],
    on_begin: Callable[[str], None] = lambda _name: None,
) -> AsyncIterator[Finding]:
    """Run the checks; each finding comes as soon as it is there.

    Args:
        patient: what the checks look at.
        checks: in this order; what one needs stands before it.
        on_begin: is told the name of each check before it runs.
    """
    usable: set[str] = set()
    for check in checks:
        missing = [name for name in check.needs if name not in usable]
        if missing:
            verdict = Verdict.absent(f"Not checked, for this needs: {', '.join(missing)}.")
        else:
            on_begin(check.name)
            verdict = await _look(check, patient)
        if verdict.grade in (Grade.PASS, Grade.WARN):
            usable.add(check.name)
        yield Finding(check.name, verdict.grade, verdict.sentence, verdict.figures)


async def _look(check: Check[_Patient], patient: _Patient) -> Verdict:
    try:
        async with asyncio.timeout(check.limit_s):
            return await check.look(patient)
    except TimeoutError:
        return Verdict.bad(
            f"The check '{check.name}' did not come to an end in {check.limit_s:g} s; "
            f"{check.if_it_hangs}"
        )
    except OutriderError as error:
        return Verdict.bad(str(error))
    except Exception as error:  # a defect of one check shall not hide what the others find
        return Verdict.bad(
            f"The check '{check.name}' failed itself ({type(error).__name__}: {error}); this is a "
            "defect in Outrider, please report it."
        )


async def in_thread(work: Callable[[], _Result]) -> _Result:
    """Do blocking work in a thread that nobody waits for if it hangs, not even the interpreter."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def settle(settle_it: Callable[[Any], None], value: Any) -> None:
        if not done.done():
            settle_it(value)

    def run() -> None:
        try:
            told: tuple[Callable[[Any], None], Any] = done.set_result, work()
        except Exception as error:  # raised again where it is awaited
            told = done.set_exception, error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *told)

    threading.Thread(target=run, name="outrider-check", daemon=True).start()
    return await done
