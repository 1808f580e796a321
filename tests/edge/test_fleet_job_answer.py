"""Jobs and the journal: one way to answer what comes again, over a restart, too."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from api_client import CHAT, HI, a_client, a_serving
from fake_runtime import ANSWER, FakeRuntime

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import CapacityError, UnavailableError
from outrider_edge.fleet.job_answer import answer
from outrider_edge.fleet.job_desk import JobError
from outrider_edge.journal.desk import AnswerDesk
from outrider_edge.journal.folder import Bounds
from outrider_edge.journal.journal import Journal
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.service import cancelled
from outrider_edge.serving import Serving

BOUNDS = Bounds(max_answers=8, max_bytes=1 << 20, max_age_s=60)
HALF = (len(ANSWER) + 1) // 2


@asynccontextmanager
async def a_daemon(
    directory: Path | None, runtime: FakeRuntime | None, *, linger_s: float = 30
) -> AsyncIterator[Serving]:
    """The state of a daemon that keeps its answers there, until it stops."""
    serving = a_serving(runtime, max_concurrent_requests=4)
    serving.answers = AnswerDesk(Journal(directory, BOUNDS), linger_s)
    running = asyncio.create_task(serving.answers.run())
    try:
        yield serving
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def a_job(job_id: str = "order-4711", content: str = "Hi", **parameters: object) -> pb.Job:
    job = pb.Job(job_id=job_id, **parameters)  # type: ignore[arg-type]
    job.messages.add(role="user", content=content)
    return job


def places(number: int = 4) -> asyncio.Semaphore:
    return asyncio.Semaphore(number)


def half_written() -> FakeRuntime:
    runtime = FakeRuntime()
    runtime.pause.clear()
    return runtime


async def until_kept(directory: Path, num_tokens: int) -> None:
    while _num_kept(directory) < num_tokens:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.01)


def _num_kept(directory: Path) -> int:
    return sum(file.read_bytes().count(b'"token"') for file in directory.glob("*.answer"))


def _num_files(directory: Path) -> int:
    return len(list(directory.iterdir())) - (directory / "lock").exists()


async def test_a_job_that_comes_again_is_answered_by_what_is_kept(tmp_path: Path) -> None:
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, runtime) as serving:
        first = await answer(serving, places(), a_job())
        assert await answer(serving, places(), a_job()) == first
    assert first.text == ANSWER
    assert len(runtime.requests) == 1


async def test_a_daemon_that_begins_anew_still_knows_the_answer(tmp_path: Path) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as serving:
        first = await answer(serving, places(), a_job())
    async with a_daemon(tmp_path, None) as serving:  # there is no verifier, nor need there be
        assert await answer(serving, places(0), a_job()) == first


async def test_what_a_restart_cut_off_is_gone_on_with_under_the_same_seed(tmp_path: Path) -> None:
    async with a_daemon(tmp_path, half_written()) as serving:
        answering = asyncio.create_task(answer(serving, places(), a_job(temperature=1.0)))
        await until_kept(tmp_path, HALF)
    with pytest.raises(UnavailableError):
        await answering
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, runtime) as serving:
        result = await answer(serving, places(), a_job(temperature=1.0))
    (request,) = runtime.requests
    assert result.text == ANSWER
    assert "".join(record.text for record in request.written) == ANSWER[:HALF]
    assert result.seed == request.sampling.seed


async def test_a_job_that_is_given_up_is_gone_on_with_when_it_comes_again(tmp_path: Path) -> None:
    runtime = half_written()
    async with a_daemon(tmp_path, runtime, linger_s=0) as serving:
        answering = asyncio.create_task(answer(serving, places(), a_job()))
        await until_kept(tmp_path, HALF)
        await cancelled([answering])
        while runtime.num_running:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.01)
        runtime.pause.set()
        assert (await answer(serving, places(), a_job())).text == ANSWER
    assert [len(request.written) for request in runtime.requests] == [0, HALF]


async def test_another_job_under_the_same_name_is_refused_after_a_restart_too(
    tmp_path: Path,
) -> None:
    async with a_daemon(tmp_path, FakeRuntime()) as serving:
        await answer(serving, places(), a_job())
    async with a_daemon(tmp_path, FakeRuntime()) as serving:
        with pytest.raises(JobError, match=r"'order-4711' was something else before; use another"):
            await answer(serving, places(), a_job(content="Something else"))


async def test_a_client_with_the_jobs_name_as_its_key_gets_an_answer_of_its_own(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime()
    async with a_daemon(tmp_path, runtime) as serving, a_client(serving) as client:
        await answer(serving, places(), a_job())
        said = await client.post(CHAT, json=HI, headers={"Idempotency-Key": "order-4711"})
        assert said.status_code == 200
    assert len(runtime.requests) == 2


async def test_no_more_jobs_are_answered_at_a_time_than_there_are_places(tmp_path: Path) -> None:
    runtime, two = half_written(), places(2)
    async with a_daemon(tmp_path, runtime) as serving, asyncio.TaskGroup() as tasks:
        for number in range(4):
            tasks.create_task(answer(serving, two, a_job(str(number))))
        await until_kept(tmp_path, 2 * HALF)
        await asyncio.sleep(0.05)
        assert runtime.num_running == 2
        runtime.pause.set()
    assert len(runtime.requests) == 4


async def test_what_cannot_be_answered_leaves_nothing_behind(tmp_path: Path) -> None:
    runtime = FakeRuntime(error=CapacityError("The verifier is full."))
    async with a_daemon(tmp_path, runtime) as serving:
        with pytest.raises(BadRequestError, match="either a prompt or messages"):
            await answer(serving, places(), pb.Job(job_id="empty"))
        with pytest.raises(CapacityError):
            await answer(serving, places(), a_job())
        runtime.error = None
        assert (await answer(serving, places(), a_job())).text == ANSWER
    assert _num_files(tmp_path) == 1


async def test_without_a_journal_on_disk_answers_are_known_until_the_daemon_ends(
    tmp_path: Path,
) -> None:
    runtime = FakeRuntime()
    for _ in range(2):
        async with a_daemon(None, runtime) as serving:
            for _ in range(3):
                assert (await answer(serving, places(), a_job())).text == ANSWER
    assert len(runtime.requests) == 2
    assert _num_files(tmp_path) == 0


async def test_in_memory_only_so_many_answers_are_known() -> None:
    runtime = FakeRuntime()
    async with a_daemon(None, runtime) as serving:
        for number in itertools.chain(range(BOUNDS.max_answers + 1), [BOUNDS.max_answers, 0]):
            await answer(serving, places(), a_job(str(number)))
    assert len(runtime.requests) == BOUNDS.max_answers + 2
