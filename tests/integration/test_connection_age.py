"""Connections that reach their age under answers that are being written, over the real stack."""

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest
from replicas import Replica, replicas
from test_failover import NUM_SESSIONS, SPEC, an_edge, assert_whole

from outrider_edge.resuming import Patience

OUTRIDER: Final = [sys.executable, "-m", "outrider"]
SLOW: Final = replace(SPEC, c0_s=0.04)
"""The same text, in passes so long that no answer fits into the life of a connection."""

PATIENCE: Final = Patience(open_s=20.0, resume_s=20.0)


@pytest.fixture(scope="module")
def aging() -> Iterator[list[Replica]]:
    ages = ("--max-connection-age-s", "0.4", "--connection-grace-s", "0.1")
    with replicas(OUTRIDER, str(SLOW), 2, *ages) as started:
        yield started


@pytest.fixture(autouse=True)
def _edges_know_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_failover.SPEC", SLOW)


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
