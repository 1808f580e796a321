"""Takes prompt jobs: each is answered to all who ask for it, and not after its time.

Jobs wait here for a place among the daemon's answers; how many is bounded. Knows nothing of MQTT,
and nothing of how an answer is made, or kept for those who ask again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from outrider.v1 import fleet_pb2 as pb
from outrider_common import log
from outrider_common.errors import (
    CapacityError,
    InvalidInputError,
    OutriderError,
    UnavailableError,
)
from outrider_edge.fleet.exchange import ReplyTo
from outrider_edge.fleet.payloads import fleet_error

_logger = logging.getLogger(__name__)

MOST_JOBS: Final = 64
"""Jobs that wait or run at most; further ones are told to come again."""

MOST_ASKERS: Final = 8
"""Places that wait for one job at most; the latest count."""

USUAL_LIMIT_S: Final = 300.0
"""For how long a job without an expiry is wanted."""

RETRY_S: Final = 0.2
"""How long a job waits before it asks again for room."""

_MAX_ID_CHARACTERS: Final = 200

Answer = Callable[[pb.Job], Awaitable[pb.JobResult]]
Deliver = Callable[[ReplyTo, pb.JobResult], None]


class JobError(InvalidInputError):
    """A job that cannot be taken as it is."""

    reason = "INVALID_JOB"


class ExpiredError(OutriderError):
    """A job whose time is over."""

    reason = "EXPIRED"
    status = "DEADLINE_EXCEEDED"


@dataclass(slots=True)
class _Open:
    """A job that waits or runs."""

    job: pb.Job
    deadline: float
    askers: deque[ReplyTo] = field(default_factory=lambda: deque(maxlen=MOST_ASKERS))


class JobDesk:
    """Takes jobs and delivers their answers.

    Args:
        answer: finds or makes an answer, see `job_answer`.
        deliver: sends one.
        clock: seconds, such as `time.monotonic`.
        retry_s: see `RETRY_S`.
    """

    def __init__(
        self,
        answer: Answer,
        deliver: Deliver,
        clock: Callable[[], float],
        retry_s: float = RETRY_S,
    ) -> None:
        self._answer = answer
        self._deliver = deliver
        self._clock = clock
        self._retry_s = retry_s
        self._open: dict[str, _Open] = {}
        self._waiting: asyncio.Queue[_Open] = asyncio.Queue()

    def ask(self, job: pb.Job, reply_to: ReplyTo | None, expires_in_s: float | None) -> None:
        """Take a job; its answer is delivered later."""
        try:
            self._take(job, reply_to, expires_in_s)
        except OutriderError as error:
            if reply_to:
                self._deliver(reply_to, _refusal(job, error))

    def _take(self, job: pb.Job, reply_to: ReplyTo | None, expires_in_s: float | None) -> None:
        if not 0 < len(job.job_id) <= _MAX_ID_CHARACTERS:
            raise JobError(f"A job needs a jobId of 1 to {_MAX_ID_CHARACTERS} characters; add one.")
        if running := self._open.get(job.job_id):
            _require_same(job, running.job)
            _add_asker(running, reply_to)
            return
        if len(self._open) >= MOST_JOBS:
            raise CapacityError(
                f"{MOST_JOBS} jobs wait for this device; ask another, or try again."
            )
        limit_s = USUAL_LIMIT_S if expires_in_s is None else expires_in_s
        begun = _Open(job, self._clock() + limit_s)
        _add_asker(begun, reply_to)
        self._open[job.job_id] = begun
        self._waiting.put_nowait(begun)

    async def run(self) -> None:
        """Answer jobs until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                job = await self._waiting.get()
                tasks.create_task(self._serve(job), name="job")  # as many as are open, at most

    async def _serve(self, job: _Open) -> None:
        result = await self._answered(job)
        del self._open[job.job.job_id]
        for reply_to in job.askers:
            self._deliver(reply_to, result)

    async def _answered(self, job: _Open) -> pb.JobResult:
        """The answer, or why there is none."""
        try:
            async with asyncio.timeout(max(0.0, job.deadline - self._clock())):
                return await self._answered_when_there_is_room(job)
        except TimeoutError:
            expired = ExpiredError("The job's time was over before its answer was complete.")
            return _refusal(job.job, expired)
        except OutriderError as error:
            return _refusal(job.job, error)
        except Exception as error:  # a defect at one job shall not end the others
            log.event(_logger, "job_failed", level=logging.ERROR, error=error)
            return _refusal(job.job, error)

    async def _answered_when_there_is_room(self, job: _Open) -> pb.JobResult:
        await asyncio.sleep(0)  # what is too late from the start does not begin
        while True:
            try:
                return await self._answer(job.job)
            except (CapacityError, UnavailableError) as error:
                if self._clock() + self._retry_s >= job.deadline:
                    raise
                log.event(_logger, "job_waits", level=logging.DEBUG, reason=str(error))
            await asyncio.sleep(self._retry_s)


def _add_asker(job: _Open, reply_to: ReplyTo | None) -> None:
    if reply_to and reply_to not in job.askers:
        job.askers.append(reply_to)


def _require_same(job: pb.Job, known: pb.Job) -> None:
    if job != known:
        raise JobError(f"The job {job.job_id!r} was something else before; use another jobId.")


def _refusal(job: pb.Job, error: Exception) -> pb.JobResult:
    return pb.JobResult(job_id=job.job_id[:_MAX_ID_CHARACTERS], error=fleet_error(error))
