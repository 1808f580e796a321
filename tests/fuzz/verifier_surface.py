"""What a hostile edge may send to a verifier, over the real gRPC stack."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
from bad_data import fill, mutated, random_bytes
from fake_engine import an_engine, an_open
from fake_target import VOCAB_SIZE, greedy_text
from fuzzing import Attack

from outrider.v1 import verifier_pb2 as pb
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.server import running_server
from outrider_common.errors import REASON_METADATA_KEY

PROMPT: Final = [1, 2, 3]
NUM_TOKENS: Final = 12
PATIENCE_S: Final = 10.0
"""A call that lasts longer hangs, unless it is still being answered: padding takes its time."""

SILENCE_S: Final = 3.0
"""More than padding ever waits."""

CLEAN: Final = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
}

_SESSION: Final = "/outrider.v1.VerifierService/Session"
_INFO: Final = "/outrider.v1.VerifierService/GetModelInfo"


def as_it_is(data: bytes) -> bytes:
    """For calls that send bytes."""
    return data


@contextlib.asynccontextmanager
async def verifier_surface() -> AsyncIterator["VerifierSurface"]:
    """A verifier with a target in memory, to be attacked."""
    engine = an_engine()
    engine.start()
    try:
        async with running_server(engine, "127.0.0.1", 0) as port:
            # Not asyncio's: a write there that meets the end of a call hides how it ended.
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield VerifierSurface(engine, channel)
    finally:
        engine.stop()


class VerifierSurface:
    """Streams of bytes that are nearly right, or not at all."""

    name = "verifier"

    def __init__(self, engine: BatchingEngine, channel: grpc.Channel) -> None:
        self._engine = engine
        self._session = channel.stream_stream(
            _SESSION,
            request_serializer=as_it_is,
            response_deserializer=pb.SessionResponse.FromString,
        )
        self._info = channel.unary_unary(
            _INFO, request_serializer=as_it_is, response_deserializer=as_it_is
        )

    async def attack(self, coins: random.Random) -> Attack:
        """One call: mostly a session that begins well and goes wrong."""
        return await asyncio.to_thread(self._attack, coins)

    def _attack(self, coins: random.Random) -> Attack:
        if coins.random() < 0.05:
            return Attack(1, _complaint_of(lambda: self._ask(_any_bytes(coins))))
        requests = _stream(coins)
        most = coins.choice((0, 1, 1000, 1000, 1000, 1000, 1000, 1000))
        return Attack(len(requests), _complaint_of(lambda: self._talk(requests, most)))

    def _ask(self, request: bytes) -> None:
        self._info(request, timeout=PATIENCE_S)

    def _talk(self, requests: list[bytes], most_answers: int) -> list[int]:
        """Send everything, and read so many answers before hanging up; gives the tokens."""
        call: Any = self._session(iter(requests), timeout=PATIENCE_S)
        tokens: list[int] = []
        latest_s = time.monotonic()
        try:
            for answer in itertools.islice(call, most_answers):
                tokens += answer.commit.tokens
                latest_s = time.monotonic()
        except grpc.RpcError as error:
            is_over = error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED
            if is_over or time.monotonic() - latest_s > SILENCE_S:
                raise
        call.cancel()
        return tokens

    async def complaint_afterwards(self) -> str | None:
        """It still serves, and has given everything back."""
        good = [an_open().SerializeToString()]
        tokens = await asyncio.to_thread(self._talk, good, 1000)
        if tokens != greedy_text(PROMPT, NUM_TOKENS, stop=()):
            return f"a good session wrote {tokens}"
        for _ in range(200):
            if self._num_sessions == 0:
                return None
            await asyncio.sleep(0.02)
        return f"{self._num_sessions} sessions are left for ever"

    @property
    def _num_sessions(self) -> int:
        stats = self._engine.stats
        return stats.num_running + stats.num_waiting


def _complaint_of(work: Callable[[], object]) -> str | None:
    try:
        work()
    except grpc.RpcError as error:
        return _complaint_about(error)
    return None


def _complaint_about(error: Any) -> str | None:
    if error.code() not in CLEAN:
        return f"{error.code().name}: {error.details()}"
    reasons = dict(error.trailing_metadata() or ())
    is_grpcs_own = error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)
    if not is_grpcs_own and REASON_METADATA_KEY not in reasons:
        return f"{error.code().name} without a reason: {error.details()}"
    return None


def _stream(coins: random.Random) -> list[bytes]:
    first = _opening(coins) if coins.random() < 0.9 else _any_bytes(coins)
    return [first, *(_later(coins) for _ in range(coins.choice((0, 1, 2, 6))))]


def _opening(coins: random.Random) -> bytes:
    request = an_open(
        max_tokens=coins.choice((1, 12, 190)),
        acceptance_mode=coins.choice((1, 1, 2, 3, 4)),
        own_guesses=coins.random() < 0.5,
        num_runner_ups=coins.choice((0, 0, 4)),
        ignore_eos=coins.random() < 0.5,
    )
    match coins.randrange(4):
        case 0:
            return mutated(request.SerializeToString(), coins)
        case 1:
            fill(request.open, coins, density=0.1)
    return request.SerializeToString()


def _later(coins: random.Random) -> bytes:
    if coins.random() < 0.2:
        return _any_bytes(coins)
    request = pb.SessionRequest()
    kind = coins.choice(("extend", "extend", "extend", "cancel", "prefix_part", "open"))
    part = getattr(request, kind)
    part.SetInParent()
    if kind == "extend" and coins.random() < 0.7:
        _fill_extend(part, coins)
    else:
        fill(part, coins)
    data: bytes = request.SerializeToString()
    return mutated(data, coins) if coins.random() < 0.2 else data


def _fill_extend(extend: Any, coins: random.Random) -> None:
    """Nearly right: a few nodes at a parent that may exist."""
    count = coins.choice((1, 1, 2, 4, 9))
    extend.tokens.extend(coins.randrange(VOCAB_SIZE) for _ in range(count))
    if coins.random() < 0.7:
        extend.parent_position = coins.choice((2, 2, 3, 5, 14, 200))
    elif coins.random() < 0.5:
        extend.parent_distance = coins.choice((0, 1, 2, 50))
    extend.later_distances.extend(coins.randrange(4) for _ in range(coins.randrange(count)))


def _any_bytes(coins: random.Random) -> bytes:
    if coins.random() < 0.5:
        return random_bytes(coins, coins.choice((4, 40, 4000)))
    return fill(pb.SessionRequest(), coins).SerializeToString()
