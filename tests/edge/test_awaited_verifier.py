"""What the log says of a verifier that is not there: enough, and not every few seconds."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fleet_device import Factory, a_daemon
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.config import Settings
from outrider_common.errors import UnavailableError
from outrider_edge.awaited_verifier import FIRST_GAP_S, LONGEST_GAP_S, AwaitedVerifier
from outrider_models.store import ModelStore


class _Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.getMessage(), record.__dict__["fields"]))


@dataclass
class Wait:
    """A wait whose clock is ours."""

    kept: _Kept
    now_s: float = 0.0
    awaited: AwaitedVerifier = field(init=False)

    def __post_init__(self) -> None:
        self.awaited = AwaitedVerifier(lambda: self.now_s)

    def miss(self, seconds: float, reason: str = "No verifier.", every_s: float = 5.0) -> None:
        """It is looked for in vain for so long."""
        for _ in range(int(seconds / every_s)):
            self.awaited.missed(reason)
            self.now_s += every_s

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.kept.said]


@pytest.fixture
def wait() -> Iterator[Wait]:
    kept, logger = _Kept(), logging.getLogger("outrider_edge.awaited_verifier")
    before = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    yield Wait(kept)
    logger.removeHandler(kept)
    logger.setLevel(before)


def test_it_is_said_at_once_and_then_with_growing_gaps(wait: Wait) -> None:
    wait.miss(10 * LONGEST_GAP_S)
    times = [fields["waited_s"] for _, fields in wait.kept.said]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == 0
    assert gaps[:3] == [FIRST_GAP_S, 2 * FIRST_GAP_S, 4 * FIRST_GAP_S]
    assert gaps[-1] == LONGEST_GAP_S
    assert gaps == sorted(gaps)


def test_another_reason_is_said_at_once(wait: Wait) -> None:
    wait.miss(20)
    wait.miss(20, "It is about to end.")
    assert [fields["reason"] for _, fields in wait.kept.said] == [
        "No verifier.",
        "It is about to end.",
    ]


def test_that_it_is_there_is_said_once_with_how_long_it_took(wait: Wait) -> None:
    wait.miss(20)
    wait.awaited.found()
    wait.awaited.found()
    assert wait.kept.said[-1] == ("verifier_found", {"waited_s": 20.0})
    assert wait.names.count("verifier_found") == 1


def test_one_that_was_there_at_once_is_not_spoken_of(wait: Wait) -> None:
    wait.awaited.found()
    assert wait.names == []


def test_the_next_wait_begins_from_the_start(wait: Wait) -> None:
    wait.miss(20)
    wait.awaited.found()
    wait.miss(20)
    assert wait.names == ["verifier_awaited", "verifier_found", "verifier_awaited"]
    assert wait.kept.said[-1][1]["waited_s"] == 0


@given(st.lists(st.tuples(st.floats(0, 1000), st.sampled_from("abc")), max_size=40))
def test_no_reason_is_ever_left_unsaid(misses: list[tuple[float, str]]) -> None:
    kept, logger = _Kept(), logging.getLogger("outrider_edge.awaited_verifier")
    logger.addHandler(kept)
    wait = Wait(kept)
    try:
        for pause_s, reason in misses:
            wait.now_s += pause_s
            wait.awaited.missed(reason)
            assert kept.said[-1][1]["reason"] == reason
    finally:
        logger.removeHandler(kept)


async def test_a_daemon_that_finds_its_verifier_says_so(
    wait: Wait, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outrider_edge.runtime_keeper.FIRST_RETRY_S", 0.001)
    factory = Factory(error=UnavailableError("No verifier."))
    async with a_daemon(Settings(), ModelStore(tmp_path), factory) as device:
        while wait.names != ["verifier_awaited"]:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.001)
        factory.error = None
        while device.serving.runtime is None:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(0.001)
    assert wait.names == ["verifier_awaited", "verifier_found"]
