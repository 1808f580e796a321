"""Three verifiers behind a real Envoy, as it is shipped, are replaced one by one under load."""

import asyncio
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ports import free_port
from proxied_replicas import SPEC, a_prompt, expected_text, figures_at, generate, running_envoy
from replicas import Replica, all_ready

from outrider_edge.grpc_link import GrpcLink

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "outrider", "verifier", "serve", "--model", str(SPEC)]
DRAIN_S = 1
NUM_USERS = 12
NUM_TOKENS = 400
"""At 5 ms a pass they take longer than a verifier that drains has."""


@dataclass
class Upgradable(Replica):
    """A verifier that tells how many sessions it has had."""

    metrics_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        options = ["--metrics-port", str(self.metrics_port), "--drain-grace-s", str(DRAIN_S)]
        super().__init__([*COMMAND, *options])

    @property
    def num_sessions(self) -> float:
        return figures_at(self.metrics_port)["request_queue_time_seconds_count"]

    def upgrade(self) -> None:
        """End it, as Kubernetes does, and start another in its place."""
        self.send(signal.SIGTERM)
        assert self.wait() == 0
        self.begin()
        self.ready()


@dataclass
class Load:
    """Users who ask, read their answer to its end, and ask again.

    Attributes:
        num_answers: how many there were, each as it should be to the last token.
        num_moved: how many of them were written in more than one session.
    """

    num_answers: int = 0
    num_moved: int = 0
    is_over: bool = False

    async def ask(self, link: GrpcLink, user: int) -> None:
        turn = 0
        while not self.is_over:
            prompt = a_prompt(system=user * 1000 + turn, user=user)
            text, num_sessions = await generate(link, prompt, NUM_TOKENS)
            assert text == expected_text(prompt, NUM_TOKENS)
            self.num_answers += 1
            self.num_moved += num_sessions > 1
            turn += 1


@pytest.fixture
def trio() -> Iterator[list[Upgradable]]:
    with all_ready([Upgradable() for _ in range(3)]) as started:
        yield started


async def test_an_upgrade_of_all_replicas_fails_no_request_and_loses_no_token(
    trio: list[Upgradable], tmp_path: Path
) -> None:
    load = Load()
    ports = [int(replica.address.rpartition(":")[2]) for replica in trio]
    with running_envoy(ports, tmp_path) as address:
        async with GrpcLink(address) as link, asyncio.TaskGroup() as users:
            for user in range(NUM_USERS):
                users.create_task(load.ask(link, user))
            for replica in trio:
                await has_sessions(replica)
                await asyncio.to_thread(replica.upgrade)
                await has_sessions(replica)  # Envoy knows the new one before the next one goes
            load.is_over = True
    assert load.num_answers >= NUM_USERS
    assert load.num_moved >= 1


async def has_sessions(replica: Upgradable) -> None:
    while await asyncio.to_thread(lambda: replica.num_sessions) == 0:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
