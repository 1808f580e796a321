"""Every input from outside gets a clean answer, whatever comes; `make fuzz` sends far more."""

import random

import pytest
from fuzzing import Attack, fuzz
from surfaces import SURFACES

from outrider_cloud import handlers

NUM_MESSAGES = 400


@pytest.mark.parametrize("name", SURFACES)
async def test_whatever_is_sent_is_answered_cleanly(name: str) -> None:
    async with SURFACES[name]() as surface:
        tally = await fuzz(surface, NUM_MESSAGES)
    assert tally.num_messages >= NUM_MESSAGES
    assert not tally.findings


async def test_an_unclean_answer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handlers, "reader_of", lambda kind: kind.FromString)  # as gRPC would
    async with SURFACES["verifier"]() as surface:
        tally = await fuzz(surface, 60)
    assert {finding.complaint.split(":")[0] for finding in tally.findings} == {"UNKNOWN"}


class Stuck:
    """Answers cleanly, and then serves no more."""

    name = "stuck"

    async def attack(self, coins: random.Random) -> Attack:
        return Attack(coins.choice((1, 2)))

    async def complaint_afterwards(self) -> str | None:
        return "nothing comes"


async def test_a_surface_that_serves_no_more_is_found_and_seeds_repeat() -> None:
    one, other = await fuzz(Stuck(), 20), await fuzz(Stuck(), 20)
    assert [finding.complaint for finding in one.findings] == [
        "at or before this attack: nothing comes"
    ]
    assert one == other
