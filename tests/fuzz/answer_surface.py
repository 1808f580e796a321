"""What a hostile or broken verifier may answer to an edge, over the real gRPC stack."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from bad_data import fill, mutated, random_bytes
from fake_link import an_info
from fake_runtime import a_tokenizer
from fuzzing import Attack
from verifier_surface import as_it_is

from outrider.v1 import verifier_pb2 as pb
from outrider_common.errors import OutriderError
from outrider_common.sampling import SamplingParams
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimators
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.resuming import Patience
from outrider_edge.runtime import EdgeRuntime
from outrider_edge.simple_proposers import GarbageFactory

PROMPT: Final = tuple(b"Hi")
NUM_TOKENS: Final = 8
PATIENCE_S: Final = 10.0


@contextlib.asynccontextmanager
async def answer_surface() -> AsyncIterator["AnswerSurface"]:
    """An edge whose verifier says what the attack wants."""
    liar = _Liar()
    server = grpc.aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        liar.session, request_deserializer=as_it_is, response_serializer=as_it_is
    )
    server.add_registered_method_handlers("outrider.v1.VerifierService", {"Session": handler})  # type: ignore[attr-defined]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with GrpcLink(f"127.0.0.1:{port}") as link:
            with ThreadPoolExecutor(1) as executor:
                yield AnswerSurface(liar, _runtime(link, executor))
    finally:
        await server.stop(None)


def _runtime(link: GrpcLink, executor: ThreadPoolExecutor) -> EdgeRuntime:
    return EdgeRuntime(
        tokenizer=a_tokenizer(),
        fingerprint="v1:fake",
        factory=GarbageFactory(),
        link=link,
        info=an_info(),
        executor=executor,
        max_depth=8,
        calibration=Calibration(),
        estimators=Estimators(),
        patience=Patience(open_s=0.05, resume_s=0.05, heartbeat_s=0.05),
    )


class _Liar:
    """Answers every session with the same bytes."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []

    async def session(self, requests: AsyncIterator[bytes], context: Any) -> None:
        await anext(aiter(requests), None)
        for answer in self.answers:
            await context.write(answer)


class AnswerSurface:
    """Generations that are lied to."""

    name = "answer"

    def __init__(self, liar: _Liar, runtime: EdgeRuntime) -> None:
        self._liar = liar
        self._runtime = runtime

    async def attack(self, coins: random.Random) -> Attack:
        """One generation; it may fail, in a sentence."""
        self._liar.answers = _answers(coins)
        count = len(self._liar.answers)
        try:
            result = await asyncio.wait_for(self._generate(), PATIENCE_S)
        except TimeoutError:
            return Attack(count, f"no end within {PATIENCE_S:g} s")
        except OutriderError as error:
            return Attack(count, None if str(error) else "an error without a sentence")
        except Exception as error:  # that is what is looked for
            return Attack(count, f"{type(error).__name__}: {error}")
        is_in_bounds = len(result.tokens) <= NUM_TOKENS
        return Attack(count, None if is_in_bounds else f"{len(result.tokens)} tokens")

    async def _generate(self) -> GenerationResult:
        request = GenerationRequest(PROMPT, NUM_TOKENS, SamplingParams())
        return await self._runtime.generate(request, lambda _record: None)

    async def complaint_afterwards(self) -> str | None:
        """A verifier that is honest again is understood."""
        self._liar.answers = [
            _opened().SerializeToString(),
            _commit(b"Hello!!!").SerializeToString(),
        ]
        text = (await self._generate()).text
        return None if text == "Hello!!!" else f"a good answer was read as {text!r}"


def _opened() -> pb.SessionResponse:
    limits = pb.Limits(
        max_message_bytes=2048, max_outstanding_nodes=8, committed_id_window=64, max_sessions=3
    )
    return pb.SessionResponse(opened=pb.Opened(session_id="s", limits=limits))


def _commit(tokens: bytes, **changes: Any) -> pb.SessionResponse:
    fields: dict[str, Any] = {"tokens": list(tokens), "finish_reason": 2} | changes
    return pb.SessionResponse(commit=pb.Commit(**fields))


def _answers(coins: random.Random) -> list[bytes]:
    answers = [_first(coins), *(_later(coins) for _ in range(coins.choice((0, 1, 2, 5))))]
    if coins.random() < 0.5:
        answers.append(_commit(b"!").SerializeToString())
    return answers


def _first(coins: random.Random) -> bytes:
    if coins.random() < 0.8:
        return _opened().SerializeToString()
    response = fill(_opened(), coins, density=0.3)
    data: bytes = response.SerializeToString()
    return mutated(data, coins) if coins.random() < 0.5 else data


def _later(coins: random.Random) -> bytes:
    match coins.randrange(5):
        case 0:
            return random_bytes(coins, 40)
        case 1:
            return fill(pb.SessionResponse(), coins).SerializeToString()
    commit = _commit(coins.randbytes(coins.choice((0, 1, 1, 3, 20))), finish_reason=0)
    if coins.random() < 0.5:
        fill(commit.commit, coins, density=0.15)
    data: bytes = commit.SerializeToString()
    return mutated(data, coins) if coins.random() < 0.2 else data
