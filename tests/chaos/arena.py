"""Verifiers in this process behind links that break, and an edge that has to live with it.

The gRPC stack, the links and the engine are real; the target is in memory, and slow enough for
things to happen in the middle of an answer.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from fake_runtime import a_tokenizer
from fake_target import VOCAB_SIZE, FakeTarget, LatePass, logits_after
from link_strikes import strike_link
from strikes import Strike, StrikeKind

from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile
from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.drain import Drain
from outrider_cloud.scheduler import PackingLimits, PackingScheduler
from outrider_cloud.server import running_server
from outrider_common.acceptance import exact_token
from outrider_common.messages import Limits
from outrider_common.sampling import SamplingParams
from outrider_edge.calibration import Calibration
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.resuming import Patience
from outrider_edge.runtime import EdgeRuntime
from outrider_edge.verifier_pool import VerifierPool

HOST: Final = "127.0.0.1"
PASS_S: Final = 0.003
DRAIN_S: Final = 0.3
PATIENCE: Final = Patience(open_s=20.0, resume_s=20.0, heartbeat_s=0.4)
CONNECT_TIMEOUT_S: Final = 1.0
"""As much less than the patience as in the default settings."""

LEFT_AFTER_S: Final = 10.0
"""What an edge has left behind is gone by then."""


class SlowTarget(FakeTarget):
    """Takes time for a pass, and stands still while it is told to."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()
        self.goes_on.set()
        super().__init__(num_pages=2000, gate=self.goes_on)

    def begin(self, segments: Sequence[Any]) -> LatePass:
        time.sleep(PASS_S)
        return super().begin(segments)


class Replica:
    """A verifier that can be killed, drained, and started again at the same port."""

    def __init__(self) -> None:
        self.port = 0
        self._target = SlowTarget()
        self._engine: BatchingEngine | None = None
        self._life: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def start(self) -> None:
        """Come up, with nothing remembered."""
        self._target = SlowTarget()
        self._engine = _engine(self._target)
        self._end = asyncio.Event()
        is_up = asyncio.Event()
        self._life = asyncio.create_task(self._live(self._engine, is_up), name="replica")
        await is_up.wait()

    async def _live(self, engine: BatchingEngine, is_up: asyncio.Event) -> None:
        engine.start()
        try:
            drain = Drain(DRAIN_S)
            async with running_server(engine, HOST, self.port, drain=drain) as self.port:
                is_up.set()
                await self._end.wait()
        finally:
            engine.stop()

    async def drain(self) -> None:
        """End as on SIGTERM."""
        assert self._life is not None
        self._end.set()
        await self._life

    @contextlib.contextmanager
    def stopped(self) -> Any:
        """No pass ends."""
        self._target.goes_on.clear()
        try:
            yield
        finally:
            self._target.goes_on.set()

    async def leftovers(self) -> str | None:
        """What sessions that are over have left behind, after a while."""
        for _ in range(int(LEFT_AFTER_S / 0.02)):
            if not any(self._held):
                return None
            await asyncio.sleep(0.02)
        num_sessions, num_pages = self._held
        return f"{num_sessions} sessions and {num_pages} pages are left"

    @property
    def _held(self) -> tuple[int, int]:
        assert self._engine is not None
        stats = self._engine.stats
        return stats.num_running + stats.num_waiting, stats.pages.num_held


def _engine(target: FakeTarget) -> BatchingEngine:
    limits = PackingLimits(
        rows_per_pass=64,
        max_nodes_per_session=8,
        prefill_chunk_tokens=16,
        max_credit=16,
        max_draft_wait_s=0.0,
    )
    return BatchingEngine(
        target,
        PackingScheduler(limits),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=Limits(
            max_message_bytes=2048,
            max_outstanding_nodes=16,
            committed_id_window=64,
            max_sessions=16,
        ),
        max_waiting_sessions=16,
    )


class Arena:
    """Some replicas, a link to each, and one edge."""

    def __init__(
        self, replicas: list[Replica], links: list[LinkEmulator], edge: EdgeRuntime
    ) -> None:
        self.edge = edge
        self._replicas = replicas
        self._links = links

    async def strike(self, strike: Strike) -> None:
        """Do it, and undo it where it passes."""
        assert strike.verifier is not None
        replica, link = self._replicas[strike.verifier], self._links[strike.verifier]
        if strike_link(link, strike):
            return
        match strike.kind:
            case StrikeKind.STOP:
                with replica.stopped():
                    await asyncio.sleep(strike.for_s)
            case StrikeKind.KILL:
                link.reset_all()
                link.freeze(strike.for_s)  # nobody hears what it still says
                await replica.drain()
                link.reset_all()
                await replica.start()
            case StrikeKind.DRAIN:
                await replica.drain()
                await replica.start()

    async def leftovers(self) -> list[str]:
        """What verifiers have not given back."""
        left = [await replica.leftovers() for replica in self._replicas]
        return [f"verifier {i}: {what}" for i, what in enumerate(left) if what]


@contextlib.asynccontextmanager
async def an_arena(num_verifiers: int, seed: int) -> AsyncIterator[Arena]:
    """Everything up and well."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = [Replica() for _ in range(num_verifiers)]
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.drain)
        links = [
            await stack.enter_async_context(
                LinkEmulator(LinkProfile(rtt_s=0.002), f"{HOST}:{replica.port}", seed=seed)
            )
            for replica in replicas
        ]
        addresses = [link.address for link in links]
        connect = partial(GrpcLink, connect_timeout_s=CONNECT_TIMEOUT_S)
        pool = VerifierPool(_resolved_to(addresses), connect, lambda _info: None, is_dynamic=False)
        stack.push_async_callback(pool.close)
        await pool.meet()
        await stack.enter_async_context(pool.kept())
        executor = stack.enter_context(ThreadPoolExecutor(4))
        info = next(iter(pool.infos.values()))
        yield Arena(
            replicas,
            links,
            EdgeRuntime(
                tokenizer=a_tokenizer(),
                fingerprint=info.tokenizer_fingerprint,
                factory=GoodGuesses(),
                link=pool.serving(info.model),
                info=info,
                executor=executor,
                max_depth=8,
                calibration=Calibration(),
                estimators=pool.estimators,
                patience=PATIENCE,
                pool=pool,
            ),
        )


def _resolved_to(addresses: list[str]) -> Callable[[], Awaitable[list[str]]]:
    async def resolve() -> list[str]:
        return addresses

    return resolve


def reference(prompt: Sequence[int], max_tokens: int, sampling: SamplingParams) -> tuple[int, ...]:
    """What the target alone writes, beyond ends of text."""
    text = list(prompt)
    while len(text) - len(prompt) < max_tokens:
        text.append(_token(text, sampling))
    return tuple(text[len(prompt) :])


def _token(text: Sequence[int], sampling: SamplingParams) -> int:
    return exact_token(logits_after(text), sampling, len(text), (), ())


class GoodGuesses:
    """Makes proposers that know the target, and are wrong now and then."""

    name = "good"

    def start(self, task: DraftingTask) -> "GoodGuesser":
        return GoodGuesser(task.sampling)


class GoodGuesser:
    def __init__(self, sampling: SamplingParams) -> None:
        self._sampling = sampling

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        time.sleep(PASS_S / 4)
        return [self._draft([*text, *path], min(max_depth, 2)) for path in paths]

    def _draft(self, text: list[int], depth: int) -> Draft:
        tokens: list[int] = []
        for _ in range(depth):
            right = _token([*text, *tokens], self._sampling)
            is_wrong = (sum(text) + len(text)) % 5 == 0
            tokens.append((right + 1) % VOCAB_SIZE if is_wrong else right)
        return Draft.chain(tokens, [0.8] * depth)
