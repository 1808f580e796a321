"""Throwing bad input at a surface and noting what it does not answer cleanly.

Every attack follows from its seed alone, so that one that was found can be run again.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Attack:
    """What became of one attack.

    Attributes:
        num_messages: that were sent.
        complaint: what was unclean about the answer; None if nothing was.
    """

    num_messages: int
    complaint: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """An unclean answer.

    Attributes:
        surface: where.
        seed: of the attack.
        complaint: what was wrong.
    """

    surface: str
    seed: int
    complaint: str


class Surface(Protocol):
    """A place where input from outside comes in."""

    @property
    def name(self) -> str:
        """For people, and to name it on a command line."""
        ...

    async def attack(self, coins: random.Random) -> Attack:
        """Send something bad, and look at the answer."""
        ...

    async def complaint_afterwards(self) -> str | None:
        """What is wrong now, after some attacks: it serves no more, or has lost something."""
        ...


@dataclass(slots=True)
class Tally:
    """What a run of attacks has come to."""

    num_attacks: int = 0
    num_messages: int = 0
    findings: list[Finding] = field(default_factory=list)


ATTACKS_BETWEEN_CHECKS = 250


async def fuzz(
    surface: Surface,
    num_messages: int,
    first_seed: int = 0,
    on_progress: Callable[[Tally], None] = lambda _tally: None,
) -> Tally:
    """Attack until so many messages were sent; seeds count up from the first."""
    tally = Tally()
    while tally.num_messages < num_messages:
        seed = first_seed + tally.num_attacks
        attack = await surface.attack(random.Random(f"{surface.name} {seed}"))
        tally.num_attacks += 1
        tally.num_messages += attack.num_messages
        if attack.complaint:
            tally.findings.append(Finding(surface.name, seed, attack.complaint))
        if tally.num_attacks % ATTACKS_BETWEEN_CHECKS == 0:
            await _check(surface, tally, seed)
            on_progress(tally)
    await _check(surface, tally, first_seed + tally.num_attacks - 1)
    return tally


async def _check(surface: Surface, tally: Tally, seed: int) -> None:
    complaint = await surface.complaint_afterwards()
    if complaint:
        tally.findings.append(Finding(surface.name, seed, f"at or before this attack: {complaint}"))
