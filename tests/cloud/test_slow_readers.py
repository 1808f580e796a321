"""Edges that do not read their streams, over the real gRPC stack, with a target in numpy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
import pytest
from fake_engine import an_engine
from fake_target import greedy_text
from test_service import HOST, answer, opened

from outrider.v1 import verifier_pb2 as pb
from outrider.v1.verifier_pb2_grpc import VerifierServiceStub
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.connection_limits import ConnectionLimits
from outrider_cloud.server import running_server
from outrider_cloud.service import MAX_UNREAD_COMMITS
from outrider_common.errors import REASON_METADATA_KEY

NUM_TOKENS: Final = 150
WINDOW: Final = 1024
"""Bytes that a stream lets come unread."""

LARGE: Final = {"max_tokens": NUM_TOKENS, "num_top_logprobs": 11}
"""Commits of more than 60 bytes, so that a window holds fewer than 17 of them."""

NARROW: Final = (("grpc.http2.lookahead_bytes", WINDOW), ("grpc.http2.bdp_probe", 0))


@asynccontextmanager
async def verifier(slow_reader_s: float) -> AsyncIterator[tuple[BatchingEngine, Any]]:
    """One, and a stub over a connection with small windows."""
    engine = an_engine()
    engine.start()
    limits = ConnectionLimits(slow_reader_s=slow_reader_s)
    try:
        async with (
            running_server(engine, HOST, 0, limits=limits) as port,
            grpc.aio.insecure_channel(f"{HOST}:{port}", options=NARROW) as channel,
        ):
            yield engine, VerifierServiceStub(channel)
    finally:
        engine.stop()


async def at_rest(engine: BatchingEngine) -> int:
    """How many passes there were when there are no more."""
    seen = -1
    while seen != (seen := engine.counters.num_passes):  # noqa: ASYNC110
        await asyncio.sleep(0.3)
    return seen


async def until_empty(engine: BatchingEngine) -> None:
    async with asyncio.timeout(20):
        while engine.num_sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_session_whose_edge_does_not_read_is_decoded_no_further() -> None:
    async with verifier(slow_reader_s=0.0) as (engine, stub):
        call = await opened(stub, **LARGE)
        num_passes = await at_rest(engine)
        assert num_passes <= MAX_UNREAD_COMMITS + WINDOW // 60 + 4  # of 150 that it would take
        assert await answer(call) == greedy_text([1, 2, 3], NUM_TOKENS, stop=())


async def test_others_on_the_same_connection_are_served_meanwhile() -> None:
    async with verifier(slow_reader_s=0.0) as (engine, stub):
        slow = [await opened(stub, **LARGE) for _ in range(2)]
        await at_rest(engine)
        async with asyncio.timeout(20):
            tokens = await answer(await opened(stub, max_tokens=NUM_TOKENS))
        assert tokens == greedy_text([1, 2, 3], NUM_TOKENS, stop=())
        assert engine.num_sessions == len(slow)
        for call in slow:
            call.cancel()


async def test_after_its_time_a_slow_reader_has_lost_its_place_and_its_pages() -> None:
    async with verifier(slow_reader_s=0.3) as (engine, stub):
        call = await opened(stub, **LARGE)
        await until_empty(engine)
        assert engine.stats.num_held_tokens == 0
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await answer(call)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert dict(caught.value.trailing_metadata() or ())[REASON_METADATA_KEY] == "SLOW_READER"
        assert "verifier.slow_reader_s" in (caught.value.details() or "")


async def test_a_slow_reader_that_never_reads_again_leaves_no_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider_cloud.service.LINGER_S", 0.2)
    async with verifier(slow_reader_s=0.2) as (engine, stub):
        before = len(asyncio.all_tasks())
        call = await opened(stub, **LARGE)
        await until_empty(engine)
        async with asyncio.timeout(20):
            while len(asyncio.all_tasks()) > before + 1:  # noqa: ASYNC110  (the call's own)
                await asyncio.sleep(0.05)
        assert not call.cancelled()


async def test_an_edge_that_reads_late_but_reads_keeps_its_session() -> None:
    async with verifier(slow_reader_s=5.0) as (engine, stub):
        call = await opened(stub, **LARGE)
        tokens: list[int] = []
        while len(tokens) < NUM_TOKENS:
            if len(tokens) % 30 == 0:
                await at_rest(engine)
            response: pb.SessionResponse = await call.read()
            tokens += response.commit.tokens
        assert tokens == greedy_text([1, 2, 3], NUM_TOKENS, stop=())
        await call.done_writing()
