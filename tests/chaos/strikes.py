"""What goes wrong in a history, and when; all of it follows from a random generator. Pure."""

import enum
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class StrikeKind(enum.Enum):
    """What happens to a verifier, or to the link to it."""

    RESET = "reset"
    """Connections are reset; what was under way is lost."""
    FREEZE = "freeze"
    """Nothing gets through for a while, then all goes on."""
    HALF_OPEN = "half-open"
    """The verifier's side is gone, and the edge hears nothing, not even that."""
    CUT_DOWN = "cut-down"
    """What comes from the verifier ends in the middle of a frame."""
    CUT_UP = "cut-up"
    """What goes to the verifier ends in the middle of a frame; the edge notices nothing."""
    KILL = "kill"
    """The verifier is gone at once, and back after a while."""
    STOP = "stop"
    """The verifier stands still for a while (SIGSTOP), then goes on."""
    DRAIN = "drain"
    """The verifier is told to end (SIGTERM), and another one takes its place."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One thing that goes wrong.

    Attributes:
        at_s: since the requests began.
        kind: what happens.
        verifier: to which one, from 0; None: to the daemon.
        for_s: how long it lasts, if it does.
        num_bytes: that still get through, where something is cut.
    """

    at_s: float
    kind: StrikeKind
    verifier: int | None
    for_s: float
    num_bytes: int


OF_DAEMONS = (StrikeKind.KILL, StrikeKind.STOP, StrikeKind.DRAIN)
"""What happens to a process, whatever it is."""


def some_strikes(coins: random.Random, num_verifiers: int, within_s: float) -> list[Strike]:
    """A few, by time."""
    strikes = [
        _a_strike(coins, within_s, list(StrikeKind), lambda: coins.randrange(num_verifiers))
        for _ in range(coins.choice((1, 1, 2, 3, 5)))
    ]
    return sorted(strikes, key=lambda strike: strike.at_s)


def some_strikes_with_a_daemon(
    coins: random.Random, num_verifiers: int, within_s: float
) -> list[Strike]:
    """A few at verifiers, and perhaps some at the daemon, by time."""
    at_daemon = [
        _a_strike(coins, within_s, OF_DAEMONS, lambda: None) for _ in range(coins.choice((0, 1, 2)))
    ]
    strikes = some_strikes(coins, num_verifiers, within_s) + at_daemon
    return sorted(strikes, key=lambda strike: strike.at_s)


def _a_strike(
    coins: random.Random,
    within_s: float,
    kinds: Sequence[StrikeKind],
    victim: Callable[[], int | None],
) -> Strike:
    return Strike(
        at_s=coins.uniform(0, within_s),
        kind=coins.choice(kinds),
        verifier=victim(),
        for_s=coins.choice((0.02, 0.1, 0.5, 1.0)),
        num_bytes=coins.choice((0, 1, 3, 17, 200)),
    )
