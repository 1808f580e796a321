"""Connections that reach their age under answers that are being written, over the real stack."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Final

import pytest
from replicas import Replica, replicas
from test_failover import NUM_SESSIONS, SPEC, an_edge, assert_whole

from outrider_edge.resuming import Patience

OUTRIDER: Final = [sys.executable, "-m", "outrider"]
PATIENCE: Final = Patience(open_s=20.0, resume_s=20.0)


@pytest.fixture(scope="module")
def aging() -> Iterator[list[Replica]]:
    ages = ("--max-connection-age-s", "0.5", "--connection-grace-s", "0.2")
    with replicas(OUTRIDER, str(SPEC), 2, *ages) as started:
        yield started


async def test_answers_outlive_their_connections(aging: list[Replica]) -> None:
    async with an_edge(aging[0].address) as edge:
        results = await asyncio.gather(
            *(edge.generate(number, patience=PATIENCE) for number in range(NUM_SESSIONS))
        )
    assert_whole(results)
    assert sum(result.stats.num_resumes for result in results) >= NUM_SESSIONS


async def test_answers_move_between_verifiers_whose_connections_grow_old(
    aging: list[Replica],
) -> None:
    async with an_edge(*(one.address for one in aging)) as edge:
        results = await asyncio.gather(
            *(edge.generate(number, patience=PATIENCE) for number in range(NUM_SESSIONS))
        )
    assert_whole(results)
    assert any(result.stats.num_resumes for result in results)
