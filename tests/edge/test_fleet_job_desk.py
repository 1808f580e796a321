"""Jobs: once each, in time, and not more than there is room for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import CapacityError, InvalidSamplingError
from outrider_edge.fleet.exchange import ReplyTo
from outrider_edge.fleet.job_desk import MOST_JOBS, JobDesk
from outrider_edge.service import cancelled

ONE, OTHER = ReplyTo("replies/one", b"1"), ReplyTo("replies/other", b"2")


@dataclass
class Office:
    """Answers jobs when it is let, and collects what is delivered."""

    may_go: asyncio.Event = field(default_factory=asyncio.Event)
    answered: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    delivered: "asyncio.Queue[tuple[ReplyTo, pb.JobResult]]" = field(default_factory=asyncio.Queue)
    now: float = 0.0

    async def answer(self, job: pb.Job) -> pb.JobResult:
        await self.may_go.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.answered.append(job.job_id)
        return pb.JobResult(job_id=job.job_id, text=job.prompt)

    def deliver(self, reply_to: ReplyTo, result: pb.JobResult) -> None:
        self.delivered.put_nowait((reply_to, result))


@asynccontextmanager
async def at_work(office: Office) -> AsyncIterator[JobDesk]:
    desk = JobDesk(office.answer, office.deliver, lambda: office.now, retry_s=0.001)
    work = asyncio.create_task(desk.run())
    try:
        yield desk
    finally:
        await cancelled([work])


def a_job(job_id: str = "a", prompt: str = "Hi") -> pb.Job:
    return pb.Job(job_id=job_id, prompt=prompt)


async def test_a_job_that_comes_again_before_it_is_answered_is_answered_once() -> None:
    office = Office()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, None)
        desk.ask(a_job(), ONE, None)  # the same question again: one answer
        desk.ask(a_job(), OTHER, None)
        office.may_go.set()
        first, second = await office.delivered.get(), await office.delivered.get()
        assert {first[0], second[0]} == {ONE, OTHER}
        assert office.delivered.empty()
    assert office.answered == ["a"]


async def test_another_job_under_the_same_name_is_refused() -> None:
    office = Office()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, None)
        desk.ask(a_job(prompt="Something else"), ONE, None)
        assert "use another jobId" in (await office.delivered.get())[1].error.message


@pytest.mark.parametrize("job_id", ["", "x" * 201])
async def test_a_job_without_a_good_name_is_refused(job_id: str) -> None:
    office = Office()
    async with at_work(office) as desk:
        desk.ask(a_job(job_id), ONE, None)
        assert "needs a jobId" in (await office.delivered.get())[1].error.message


async def test_a_job_whose_time_is_over_is_not_begun() -> None:
    office = Office()
    office.may_go.set()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, 10.0)
        office.now = 11.0
        _, result = await office.delivered.get()
        assert result.error.reason == "EXPIRED"
    assert office.answered == []


async def test_a_job_that_outlasts_its_time_is_given_up() -> None:
    office = Office()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, 0.01)
        _, result = await office.delivered.get()
        assert result.error.reason == "EXPIRED"


async def test_a_job_waits_for_room_as_long_as_it_is_wanted() -> None:
    office = Office(errors=[CapacityError("Full.")] * 3)
    office.may_go.set()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, None)
        assert (await office.delivered.get())[1].text == "Hi"


async def test_a_job_that_failed_may_be_asked_again() -> None:
    office = Office(errors=[InvalidSamplingError("Too hot."), ZeroDivisionError()])
    office.may_go.set()
    async with at_work(office) as desk:
        desk.ask(a_job(), ONE, None)
        assert (await office.delivered.get())[1].error.reason == "INVALID_SAMPLING"
        desk.ask(a_job(), ONE, None)
        assert (await office.delivered.get())[1].error.reason == "INTERNAL"
        desk.ask(a_job(), ONE, None)
        assert (await office.delivered.get())[1].text == "Hi"


async def test_no_more_jobs_wait_than_there_is_room_for() -> None:
    office = Office()
    async with at_work(office) as desk:
        for number in range(MOST_JOBS):
            desk.ask(a_job(str(number)), None, None)
        desk.ask(a_job("too many"), ONE, None)
        _, result = await office.delivered.get()
        assert result.error.reason == "CAPACITY"
        desk.ask(a_job("0"), OTHER, None)  # known ones are still joined
        office.may_go.set()
        assert (await office.delivered.get())[0] == OTHER


@given(st.lists(st.integers(0, 20), max_size=60))
def test_every_asker_is_answered(ids: list[int]) -> None:
    async def work() -> None:
        office = Office()
        office.may_go.set()
        async with at_work(office) as desk:
            for i, number in enumerate(ids):
                desk.ask(a_job(str(number)), ReplyTo(f"{number}/{i % 4}"), None)
                if i % 7 == 0:
                    await asyncio.sleep(0)
            wanted = {(str(number), f"{number}/{i % 4}") for i, number in enumerate(ids)}
            told = set()
            while told != wanted:
                reply_to, result = await office.delivered.get()
                told.add((result.job_id, reply_to.topic))
        assert set(office.answered) == {str(number) for number in ids}

    asyncio.run(work())
