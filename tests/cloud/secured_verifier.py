"""A verifier over a target in numpy, secured as its settings say, and sessions with it."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fake_target import FakeTarget, greedy_text

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.security import load_security
from outrider_cloud.server import running_server
from outrider_common.messages import Commit, FinishReason, Limits, Opened, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.settings.verifier import VerifierSettings
from outrider_edge.grpc_link import GrpcLink, GrpcSession
from outrider_edge.link_security import NO_SECURITY, LinkSecurity

HOST = "127.0.0.1"
MODEL = "fake"
PROMPT = (1, 2, 3)
NUM_TOKENS = 12
ANSWER = greedy_text(PROMPT, NUM_TOKENS, stop=())
OPEN = OpenSession(PROMPT, 3, NUM_TOKENS, SamplingParams(), "v1:fake", ignore_eos=True)


def an_engine(
    gate: threading.Event | None = None, target: FakeTarget | None = None
) -> BatchingEngine:
    limits = PackingLimits(
        rows_per_pass=32,
        max_nodes_per_session=4,
        prefill_chunk_tokens=16,
        max_credit=8,
        max_draft_wait_s=0.0,
    )
    return BatchingEngine(
        target or FakeTarget(gate=gate),
        PackingScheduler(limits),
        model=MODEL,
        tokenizer_fingerprint="v1:fake",
        limits=Limits(
            max_message_bytes=2048,
            max_outstanding_nodes=8,
            committed_id_window=64,
            max_sessions=8,
        ),
    )


@asynccontextmanager
async def secured_verifier(
    gate: threading.Event | None = None, **settings: Any
) -> AsyncIterator[str]:
    """Its address. While a gate is given and closed, no pass comes to an end."""
    security = load_security(VerifierSettings(model=MODEL, **settings))
    engine = an_engine(gate)
    engine.start()
    try:
        async with running_server(engine, HOST, 0, security(engine)) as port:
            yield f"{HOST}:{port}"
    finally:
        if gate is not None:
            gate.set()
        engine.stop()


def link_to(address: str, security: LinkSecurity = NO_SECURITY) -> GrpcLink:
    return GrpcLink(address, connect_timeout_s=10, security=security)


async def opened(link: GrpcLink) -> GrpcSession:
    session = await link.open(OPEN, 2048)
    assert isinstance(await session.receive(), Opened)
    return session


async def rest(session: GrpcSession) -> list[int]:
    """The tokens that are still to come."""
    tokens: list[int] = []
    while (event := await session.receive()) is not None:
        assert isinstance(event, Commit)
        tokens += event.tokens
        if event.finish_reason is not None:
            assert event.finish_reason is FinishReason.LENGTH
    return tokens


async def answer(link: GrpcLink) -> list[int]:
    return await rest(await opened(link))
