"""Answers a job like a request to the HTTP API: same parameters, same places, same figures.

Knows nothing of MQTT.
"""

import secrets
import time
from typing import Any, Final

from outrider.v1 import fleet_pb2 as pb
from outrider_common.errors import UnavailableError
from outrider_edge.choice_stream import ChoiceStream, Finished
from outrider_edge.generation import GenerationResult
from outrider_edge.making import Making, making
from outrider_edge.openai_errors import BadRequestError
from outrider_edge.openai_requests import (
    ApiRequest,
    parse_chat_request,
    parse_completion_request,
)
from outrider_edge.serving import Serving

_PARAMETERS: Final = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed")


async def answer(serving: Serving, job: pb.Job) -> pb.JobResult:
    """Generate the answer to a job.

    Raises:
        CapacityError: there is no room now.
        UnavailableError: there is no verifier now, or the daemon takes no more.
        OutriderError: the job cannot be answered as it is.
    """
    model = serving.require_runtime().info.model
    request = _request(serving, job, model)
    began = time.perf_counter()
    async with (
        making(serving, request, job.job_id, began) as made,
        made.stream(made.generations) as stream,
    ):
        return _worded(job, made, await _result(stream, made))


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


async def _result(stream: ChoiceStream, made: Making) -> GenerationResult:
    """Wait for the answer; it counts like any other."""
    while True:
        events = await stream.events()
        made.note(events)
        for event in events:
            if isinstance(event, Finished):
                return _verified(event.result)


def _verified(result: GenerationResult) -> GenerationResult:
    """The result; a job waits for a verifier as long as it is wanted, as nobody reads it now."""
    if not result.is_verified:
        raise UnavailableError("No verifier has seen the answer to the job; try again.")
    return result


def _worded(job: pb.Job, made: Making, result: GenerationResult) -> pb.JobResult:
    return pb.JobResult(
        job_id=job.job_id,
        text=result.text,
        finish_reason=result.finish_reason.value,
        model=made.model,
        seed=made.generations[0].sampling.seed,
        acceptance_mode=result.acceptance_mode.value,
        is_lossless=result.acceptance_mode.is_lossless,
        num_prompt_tokens=made.num_prompt_tokens,
        num_tokens=result.stats.num_tokens,
        num_accepted_tokens=result.stats.num_accepted_tokens,
        duration_s=result.stats.duration_s,
    )


def _fresh_seed() -> int:
    return secrets.randbits(32)
