"""Answers a job like a request to the HTTP API: same parameters, same places, same journal.

Knows nothing of MQTT.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import UnavailableError
from outrider_edge.choice_stream import Finished
from outrider_edge.fleet.job_desk import JobError
from outrider_edge.generation import GenerationResult
from outrider_edge.journal.desk import Asked
from outrider_edge.journal.kept_answer import Heading
from outrider_edge.journal.shared_answer import Reader
from outrider_edge.making import Making, making
from outrider_edge.openai_errors import BadRequestError, ReusedKeyError
from outrider_edge.openai_requests import (
    ApiRequest,
    parse_chat_request,
    parse_completion_request,
)
from outrider_edge.serving import Serving

_KEY_PREFIX: Final = "job\n"
"""No header has a line break: no Idempotency-Key is the name of a job."""

_PARAMETERS: Final = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed")


async def answer(serving: Serving, places: asyncio.Semaphore, job: pb.Job) -> pb.JobResult:
    """The answer to a job: what is written is read, what is missing is written.

    Args:
        serving: the state of the daemon.
        places: one is taken while the job is answered here; a known answer needs none.
        job: what is asked for.

    Raises:
        JobError: the name of the job stands for another one.
        CapacityError: there is no room now.
        UnavailableError: there is no verifier now, or the daemon takes no more.
        OutriderError: the job cannot be answered as it is.
    """
    began = time.perf_counter()

    @contextlib.asynccontextmanager
    async def prepare(seed: int | None) -> AsyncIterator[Making]:
        request = _request(serving, job, serving.require_runtime().info.model)
        wanted = request if seed is None else request.with_seed(seed)
        async with places, making(serving, wanted, job.job_id, began) as made:
            yield made

    asked = Asked(_KEY_PREFIX + job.job_id, job.SerializeToString(deterministic=True))
    try:
        async with serving.answers.attached(asked, prepare) as attached:
            return _worded(job, attached.heading, await _result(attached.reader))
    except ReusedKeyError as error:
        raise JobError(
            f"The job {job.job_id!r} was something else before; use another jobId."
        ) from error


def _request(serving: Serving, job: pb.Job, model: str) -> ApiRequest:
    if bool(job.prompt) == bool(job.messages):
        raise BadRequestError("A job has either a prompt or messages; send one of them.")
    document: dict[str, Any] = {
        name: getattr(job, name) for name in _PARAMETERS if job.HasField(name)
    }
    document["model"] = job.model or model
    if job.stop:
        document["stop"] = list(job.stop)
    if job.acceptance_mode:
        document["acceptance_mode"] = job.acceptance_mode
    if job.prompt:
        return parse_completion_request(
            document | {"prompt": job.prompt}, serving.sampling, _fresh_seed
        )
    messages = [{"role": message.role, "content": message.content} for message in job.messages]
    return parse_chat_request(document | {"messages": messages}, serving.sampling, _fresh_seed)


async def _result(reader: Reader) -> GenerationResult:
    """Wait for the answer."""
    while True:
        for event in await reader.events():
            if isinstance(event, Finished):
                return _verified(event.result)


def _verified(result: GenerationResult) -> GenerationResult:
    """The result; a job waits for a verifier as long as it is wanted, as nobody reads it now."""
    if not result.is_verified:
        raise UnavailableError("No verifier has seen the answer to the job; try again.")
    return result


def _worded(job: pb.Job, heading: Heading, result: GenerationResult) -> pb.JobResult:
    return pb.JobResult(
        job_id=job.job_id,
        text=result.text,
        finish_reason=result.finish_reason.value,
        model=heading.model,
        seed=heading.seed,
        acceptance_mode=result.acceptance_mode.value,
        is_lossless=result.acceptance_mode.is_lossless,
        num_prompt_tokens=heading.num_prompt_tokens,
        num_tokens=result.stats.num_tokens,
        num_accepted_tokens=result.stats.num_accepted_tokens,
        duration_s=result.stats.duration_s,
    )


def _fresh_seed() -> int:
    return secrets.randbits(32)
