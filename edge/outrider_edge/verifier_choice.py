"""Which of several verifiers takes the next session: the one that should commit a token soonest.

Pure. Knows nothing of networks and of why some verifiers cannot be chosen.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

UNKNOWN_PASS_S: Final = 0.05
"""How long a pass takes where nothing is known of any verifier's."""

NEARLY: Final = 1.25
NEARLY_S: Final = 0.005
"""Verifiers whose times differ by less than this factor, or this time, are equally good."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A verifier that could be chosen.

    Attributes:
        round_trip_s: to it and back; None: not measured yet.
        pass_s: one of its verification passes; None: not known yet.
        num_running: sessions that run there.
        num_waiting: sessions that wait there.
        max_running: sessions that may run there at the same time.
    """

    round_trip_s: float | None
    pass_s: float | None
    num_running: int
    num_waiting: int
    max_running: int

    def expected_s(self, unknown_pass_s: float) -> float:
        """From opening a session to its first token, about, prompts left out.

        A round trip, and a pass, which takes up to twice as long on a verifier that is full. Those
        that wait each have a place to wait for, which is taken to be a pass at least.

        Args:
            unknown_pass_s: what a pass takes if that is not known.
        """
        share = self.num_running / max(self.max_running, 1)
        pass_s = self.pass_s or unknown_pass_s
        return (self.round_trip_s or 0.0) + pass_s * (1 + min(share, 1.0) + self.num_waiting)


def expected_times_s(choices: Sequence[Choice]) -> list[float]:
    """`Choice.expected_s` of each, where the fastest that is known stands for what is not."""
    fastest_s = min((choice.pass_s for choice in choices if choice.pass_s), default=UNKNOWN_PASS_S)
    return [choice.expected_s(fastest_s) for choice in choices]


def choose(choices: Sequence[Choice], pick: Callable[[Sequence[int]], int] = random.choice) -> int:
    """The index of the best one.

    Of those that are nearly as good, any: many edges that know the same would else all go to one.
    One whose passes nobody has seen is taken to be as fast as the fastest, or it would not be tried
    beside any that is faster than a guess.

    Args:
        choices: at least one.
        pick: takes one of several.
    """
    times = expected_times_s(choices)
    best_s = min(times)
    limit_s = max(best_s * NEARLY, best_s + NEARLY_S)
    return pick([i for i, expected_s in enumerate(times) if expected_s <= limit_s])
