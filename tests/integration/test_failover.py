"""Verifiers as processes that are killed, frozen and restarted under several answers at once."""

import asyncio
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest
from replicas import Replica, replicas
from tokenizers import Tokenizer, models

from outrider_bench.link import LinkEmulator
from outrider_bench.profile import LinkProfile
from outrider_common.errors import BrokenOffError
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_edge.generation import Generation, GenerationRequest, GenerationResult
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.proposer import DraftingTask
from outrider_edge.resuming import Patience
from outrider_edge.streaming_text import IncrementalDetokenizer
from outrider_edge.synthetic_proposer import SyntheticFactory
from outrider_edge.verifier_pool import VerifierPool

SPEC: Final = SyntheticSpec(vocab=200, acceptance=0.8, c0_s=0.01, c1_s=0, positions=512)
OUTRIDER: Final = [sys.executable, "-m", "outrider"]
NUM_TOKENS: Final = 120
NUM_SESSIONS: Final = 8
TOKENS_BEFORE: Final = 100
"""So many tokens, of all answers together, are there when the fault happens."""


@pytest.fixture(scope="module")
def trio() -> Iterator[list[Replica]]:
    with replicas(OUTRIDER, str(SPEC), 3) as started:
        yield started


def a_prompt(number: int) -> tuple[int, ...]:
    return tuple(1 + (number * 7 + i) % 150 for i in range(20 + number % 30))


def expected(number: int) -> tuple[int, ...]:
    """What the target alone writes."""
    text = list(a_prompt(number))
    for _ in range(NUM_TOKENS):
        text.append(next_token(SPEC, text))
    return tuple(text[len(a_prompt(number)) :])


class Edge:
    """Generates over a pool, with the synthetic proposer."""

    def __init__(self, pool: VerifierPool, executor: ThreadPoolExecutor) -> None:
        self.pool = pool
        self._executor = executor
        self._info = next(iter(pool.infos.values()))
        words = {f"t{i}": i for i in range(SPEC.vocab)}
        self._tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))

    async def generate(
        self,
        number: int,
        on_token: Callable[[Any], None] = lambda _record: None,
        patience: Patience | None = None,
    ) -> GenerationResult:
        prompt = a_prompt(number)
        request = GenerationRequest(prompt, NUM_TOKENS, SamplingParams(), ignore_eos=True)
        task = DraftingTask(request.sampling, len(prompt), SPEC.vocab)
        generation = Generation(
            request,
            link=self.pool.serving(self._info.model),
            info=self._info,
            tokenizer_fingerprint=SPEC.tokenizer_fingerprint,
            proposer=SyntheticFactory(SPEC).start(task),
            proposer_name="synthetic",
            detokenizer=IncrementalDetokenizer(self._tokenizer),
            executor=self._executor,
            max_depth=16,
            on_token=on_token,
            patience=patience,
        )
        return await generation.run()

    def num_open(self, address: str) -> int:
        """How many answers are written at a verifier."""
        reports = self.pool.report()
        return sum(report["num_open"] for report in reports if report["address"] == address)

    @property
    def busiest(self) -> str:
        """Where most of the answers are written."""
        return max((member.address for member in self.pool.members), key=self.num_open)

    async def answers_over(self, fault: Callable[[], None]) -> list[GenerationResult]:
        """Several answers at once; the fault happens in their middle."""
        num_tokens = itertools.count(1)

        def count(_record: Any) -> None:
            if next(num_tokens) == TOKENS_BEFORE:
                fault()

        return await asyncio.gather(*(self.generate(i, count) for i in range(NUM_SESSIONS)))


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  (what is waited for is no event)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def an_edge(*addresses: str) -> AsyncIterator[Edge]:
    async def resolve() -> list[str]:
        return list(addresses)

    pool = VerifierPool(resolve, GrpcLink, lambda _info: None)
    with ThreadPoolExecutor(4) as executor:
        try:
            await pool.meet()
            async with pool.kept():
                yield Edge(pool, executor)
        finally:
            await pool.close()


def assert_whole(results: list[GenerationResult]) -> None:
    for number, result in enumerate(results):
        assert result.tokens == expected(number), number
        positions = [record.position for record in result.records]
        assert positions == list(range(positions[0], positions[0] + NUM_TOKENS))


@pytest.mark.parametrize("how", ["reset", "freeze"])
async def test_a_link_that_breaks_moves_its_answers(trio: list[Replica], how: str) -> None:
    async with AsyncExitStack() as stack:
        links = [
            await stack.enter_async_context(LinkEmulator(LinkProfile(), replica.address))
            for replica in trio[:2]
        ]
        async with an_edge(*(link.address for link in links)) as edge:
            moved = 0

            def fault() -> None:
                nonlocal moved
                victim = next(link for link in links if link.address == edge.busiest)
                moved = edge.num_open(edge.busiest)
                victim.reset_all() if how == "reset" else victim.freeze()

            results = await edge.answers_over(fault)
            for link in links:
                link.thaw()
    assert_whole(results)
    assert sum(result.stats.num_resumes for result in results) >= moved > 0


async def test_a_verifier_that_freezes_is_left(trio: list[Replica]) -> None:
    async with an_edge(*(replica.address for replica in trio[:2])) as edge:
        victim = trio[0]

        def freeze() -> None:
            nonlocal victim
            victim = next(one for one in trio if one.address == edge.busiest)
            victim.send(signal.SIGSTOP)

        try:
            results = await edge.answers_over(freeze)
            assert_whole(results)
            assert any(result.stats.num_resumes for result in results)
            states = {report["address"]: report["state"] for report in edge.pool.report()}
            assert states[victim.address] == "unreachable"
        finally:
            victim.send(signal.SIGCONT)


async def test_a_rolling_restart_under_load_fails_no_request(trio: list[Replica]) -> None:
    async with an_edge(*(replica.address for replica in trio)) as edge:
        is_over = False
        num_answers = num_resumes = 0

        async def ask(number: int) -> None:
            nonlocal num_answers, num_resumes
            while not is_over:
                result = await edge.generate(number)
                assert result.tokens == expected(number)
                num_answers += 1
                num_resumes += result.stats.num_resumes

        async with asyncio.TaskGroup() as tasks:
            for number in range(NUM_SESSIONS):
                tasks.create_task(ask(number))
            for replica in trio:
                await until(lambda address=replica.address: edge.num_open(address) > 0)
                replica.send(signal.SIGTERM)
                assert await asyncio.to_thread(replica.wait) == 0
                replica.begin()
                await asyncio.to_thread(replica.ready)
            is_over = True
    assert num_answers >= NUM_SESSIONS
    assert num_resumes >= 1


async def test_a_verifier_that_is_killed_costs_no_token(trio: list[Replica]) -> None:
    async with an_edge(*(replica.address for replica in trio[:2])) as edge:
        victim = trio[0]

        def kill() -> None:
            nonlocal victim
            victim = next(one for one in trio if one.address == edge.busiest)
            victim.send(signal.SIGKILL)

        results = await edge.answers_over(kill)
        assert victim.wait() == -signal.SIGKILL
    assert_whole(results)
    assert any(result.stats.num_resumes for result in results)


async def test_the_only_verifier_is_waited_for_while_it_is_started_again(
    trio: list[Replica],
) -> None:
    only = trio[2]
    async with an_edge(only.address) as edge:
        results = asyncio.create_task(edge.answers_over(lambda: only.send(signal.SIGKILL)))
        assert await asyncio.to_thread(only.wait) == -signal.SIGKILL
        only.begin()
        await asyncio.to_thread(only.ready)
        assert_whole(await results)


async def test_when_nobody_goes_on_the_caller_gets_one_error(trio: list[Replica]) -> None:
    only = trio[2]
    async with an_edge(only.address) as edge:
        written = 0

        def kill(_record: Any) -> None:
            nonlocal written
            written += 1
            if written == 20:
                only.send(signal.SIGKILL)

        with pytest.raises(BrokenOffError, match=r"broke off after \d+ tokens") as caught:
            await edge.generate(0, kill, Patience(resume_s=0.5))
        assert caught.value.num_tokens == written
    only.wait()
