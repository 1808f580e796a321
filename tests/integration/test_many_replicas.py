"""Three verifier processes behind a real Envoy, and with an edge that balances by itself."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from proxied_replicas import (
    Replica,
    a_prompt,
    expected_text,
    generate,
    running_envoy,
    running_replicas,
)

from outrider_edge.grpc_link import GrpcLink
from outrider_edge.link import VerifierLink
from outrider_edge.verifier_pool import VerifierPool

pytestmark = pytest.mark.slow

PAGE_TOKENS = 16
NUM_WORKERS = 8
TEXTS_EACH = 10
NUM_TOKENS = 30


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[Replica]]:
    """All tests share them: only the last ones end some."""
    with running_replicas(3) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(replicas: list[Replica], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ports = [one.port for one in replicas]
    with running_envoy(ports, tmp_path_factory.mktemp("envoy")) as address:
        yield address


@asynccontextmanager
async def balanced_link(replicas: list[Replica]) -> AsyncIterator[VerifierLink]:
    """A link to all replicas at once: the edge's pool chooses one for each session."""

    async def resolve() -> list[str]:
        return [replica.address for replica in replicas]

    pool = VerifierPool(resolve, GrpcLink, lambda _info: None)
    try:
        infos = await pool.meet()
        async with pool.kept():
            yield pool.serving(next(iter(infos)))
    finally:
        await pool.close()


@asynccontextmanager
async def links_in_turn(replicas: list[Replica]) -> AsyncIterator[Iterator[GrpcLink]]:
    """A link to one replica after the other, whatever is asked."""
    async with AsyncExitStack() as stack:
        links = [await stack.enter_async_context(GrpcLink(one.address)) for one in replicas]
        yield itertools.cycle(links)


async def load(link: VerifierLink, texts_each: int = TEXTS_EACH) -> list[int]:
    """Texts from several users at once, each checked; in how many sessions each was written."""

    async def work(worker: int) -> list[int]:
        numbers = []
        for index in range(texts_each):
            prompt = a_prompt(worker * texts_each + index, user=worker)
            text, num_sessions = await generate(link, prompt, NUM_TOKENS)
            assert text == expected_text(prompt, NUM_TOKENS)
            numbers.append(num_sessions)
        return numbers

    results = await asyncio.gather(*map(work, range(NUM_WORKERS)))
    return [number for numbers in results for number in numbers]


def num_sessions(replicas: list[Replica]) -> list[float]:
    """How many sessions each has let in."""
    return [replica.figures()["request_queue_time_seconds_count"] for replica in replicas]


def shares(replicas: list[Replica], before: list[float]) -> list[float]:
    return [now - then for now, then in zip(num_sessions(replicas), before, strict=True)]


async def test_envoy_spreads_sessions_over_all_replicas(
    replicas: list[Replica], envoy: str
) -> None:
    before = num_sessions(replicas)
    async with GrpcLink(envoy) as link:
        assert set(await load(link)) == {1}
    assert sum(shares(replicas, before)) == NUM_WORKERS * TEXTS_EACH
    # Fewer of 80 that fall on random thirds has a chance below 1e-5.
    assert min(shares(replicas, before)) >= 8


async def test_a_client_spreads_sessions_by_itself(replicas: list[Replica]) -> None:
    before = num_sessions(replicas)
    async with balanced_link(replicas) as link:
        assert set(await load(link)) == {1}
    assert min(shares(replicas, before)) >= 20


async def hits(links: Iterator[GrpcLink], replicas: list[Replica], first_system: int) -> float:
    """How many prompt tokens were cached, for four system prompts of eight users each."""
    before = sum(replica.figures()["prefix_cache_hits_total"] for replica in replicas)
    for user in range(8):
        for system in range(first_system, first_system + 4):
            await generate(next(links), a_prompt(system, user), 4)
    return sum(replica.figures()["prefix_cache_hits_total"] for replica in replicas) - before


async def test_sessions_with_the_same_system_prompt_meet_behind_envoy_and_in_turn_do_not(
    replicas: list[Replica], envoy: str
) -> None:
    shared = len(a_prompt(0, 0)) // PAGE_TOKENS * PAGE_TOKENS
    async with GrpcLink(envoy) as link:
        assert await hits(itertools.repeat(link), replicas, 1000) == (8 - 1) * 4 * shared
    async with links_in_turn(replicas) as links:
        assert await hits(links, replicas, 2000) <= (8 - 3) * 4 * shared


async def test_a_replica_that_drains_under_load_breaks_no_session(
    replicas: list[Replica], envoy: str
) -> None:
    draining, *others = replicas
    async with GrpcLink(envoy) as by_envoy, balanced_link(replicas) as by_client:
        running = asyncio.gather(load(by_envoy), load(by_client))
        await asyncio.sleep(0.5)
        draining.process.terminate()
        through_envoy, balanced = await running
        assert set(through_envoy) == {1}
        assert set(balanced) <= {1, 2}  # who was refused asks the next one
        assert await asyncio.to_thread(draining.process.wait, 30) == 0
        before = num_sessions(others)
        for link in (by_envoy, by_client):
            assert set(await load(link, texts_each=3)) == {1}
    assert sum(shares(others, before)) == 2 * 3 * NUM_WORKERS


async def test_a_replica_that_is_killed_under_load_costs_no_text(
    replicas: list[Replica], envoy: str
) -> None:
    _, killed, last = replicas
    async with GrpcLink(envoy) as by_envoy, balanced_link(replicas) as by_client:
        running = asyncio.gather(load(by_envoy), load(by_client))
        await asyncio.sleep(0.5)
        killed.process.kill()
        await running
        before = num_sessions([last])
        for link in (by_envoy, by_client):
            assert set(await load(link, texts_each=3)) == {1}
    assert shares([last], before) == [2 * 3 * NUM_WORKERS]
