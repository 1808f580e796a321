"""Answers a job like a request to the HTTP API: same parameters, same places, same figures.

Knows nothing of MQTT.
"""

import asyncio
import secrets
import time
from typing import Any, Final

from outrider.v1 import fleet_pb2 as pb
from outrider_edge.choice_stream import ChoiceStream, Finished, ServingRuntime, Written
from outrider_edge.generation import GenerationRequest, GenerationResult
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
    began = time.perf_counter()
    runtime = serving.require_runtime()
    request = _request(serving, job, runtime.info.model)
    request.check_model(runtime.info.model)
    with serving.room(1):
        (generation,) = await asyncio.to_thread(
            request.generations, runtime.tokenizer, runtime.info
        )
        serving.require_runtime()  # the daemon may have begun to stop meanwhile
        serving.metrics.prompted(runtime.info.model, len(generation.prompt))
        async with ChoiceStream(runtime, [generation]) as stream:
            with serving.tracked(stream):
                result = await _result(serving, stream, runtime, began)
    return _worded(job, generation, result, runtime)


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


async def _result(
    serving: Serving, stream: ChoiceStream, runtime: ServingRuntime, began: float
) -> GenerationResult:
    """Wait for the answer; it counts like any other."""
    is_first = True
    while True:
        for event in await stream.events():
            seconds = time.perf_counter() - began
            match event:
                case Written() if is_first:
                    is_first = False
                    serving.metrics.first_token(runtime.info.model, seconds)
                case Finished(_, result):
                    serving.metrics.answered(runtime.info.model, result, seconds)
                    serving.sums.add(result.stats)
                    return result


def _worded(
    job: pb.Job, generation: GenerationRequest, result: GenerationResult, runtime: ServingRuntime
) -> pb.JobResult:
    return pb.JobResult(
        job_id=job.job_id,
        text=result.text,
        finish_reason=result.finish_reason.value,
        model=runtime.info.model,
        seed=generation.sampling.seed,
        acceptance_mode=result.acceptance_mode.value,
        is_lossless=result.acceptance_mode.is_lossless,
        num_prompt_tokens=len(generation.prompt),
        num_tokens=result.stats.num_tokens,
        num_accepted_tokens=result.stats.num_accepted_tokens,
        duration_s=result.stats.duration_s,
    )


def _fresh_seed() -> int:
    return secrets.randbits(32)
