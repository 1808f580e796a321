"""How fast a session would be over a round-trip time, against the cloud alone. Pure.

The formulas of the design: a is the acceptance of a drafted token, t_d the time of a draft pass,
t_v(n) that of a verification pass over n rows, t_ar = t_v(1) that of plain decoding, R the round
trip. A drafter says one token a pass, or a block of K: then a stands for the chances that the first
1, 2, ..., K of them are all right. They are taken to be independent of position and confidence, so
a calibrated policy does better.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ROUND_TRIPS_MS: Final = (0, 10, 20, 50, 100, 200, 400)
MOST_DRAFTED: Final = 16


@dataclass(frozen=True, slots=True)
class Times:
    """How long things take, in seconds.

    Attributes:
        draft_s: of a draft pass.
        pass_s: a verification pass without rows.
        row_s: what each row adds to it.
    """

    draft_s: float
    pass_s: float
    row_s: float

    def verify_s(self, num_rows: int) -> float:
        """A pass over so many rows."""
        return self.pass_s + self.row_s * num_rows

    @property
    def plain_s(self) -> float:
        """A step of plain decoding."""
        return self.verify_s(1)


@dataclass(frozen=True, slots=True)
class SpeedUp:
    """Speeds at one round-trip time, as multiples of the cloud alone.

    Attributes:
        round_trip_s: the round trip.
        stop_and_wait: the best draft length, waiting for every verdict.
        num_drafted: that length.
        chain: one chain drafted without waiting, hedged by plain decoding.
        tree: with branches that are there before the correction is; hedged. A bound: it takes every
            one of the first guesses to be drafted on in time, and at no cost.
    """

    round_trip_s: float
    stop_and_wait: float
    num_drafted: int
    chain: float
    tree: float

    @property
    def unbranched(self) -> float:
        """The better of the two that are no bounds."""
        return max(self.stop_and_wait, self.chain)


def committed(runs: Sequence[float], num_passes: int) -> float:
    """Tokens that a verification pass commits on average, the correction counted.

    1 + (a_1 + ... + a_K) (1 + a_K + ... + a_K^(m-1)) after m draft passes; for one token a pass
    this is (1 - a^(m+1)) / (1 - a) (Leviathan et al. 2023).

    Args:
        runs: the chances that the first 1, 2, ..., K tokens of a draft pass are all right.
        num_passes: draft passes, one behind the other.
    """
    return 1 + sum(runs) * sum(runs[-1] ** number for number in range(num_passes))


def stop_and_wait(times: Times, runs: Sequence[float], round_trip_s: float) -> tuple[float, int]:
    """Tokens per second of the best draft length, and that length."""
    size = len(runs)
    return max(
        (
            committed(runs, m) / (m * times.draft_s + round_trip_s + times.verify_s(m * size + 1)),
            m * size,
        )
        for m in range(1, max(MOST_DRAFTED // size, 1) + 1)
    )


def streamed(times: Times, runs: Sequence[float], rescued: float, round_trip_s: float) -> float:
    """Tokens per second without waiting: 1 / (t_d + (1 - a) (1 - h) (R + t_v)), small blocks.

    A draft pass of K tokens brings a_1 + ... + a_K, and a correction where they are not all right.
    Hedged, so never less than the cloud alone.

    Args:
        times: how long things take.
        runs: the chances that the first 1, 2, ..., K tokens of a draft pass are all right.
        rescued: how often a correction is a branch that is there already, h; 0 for a chain.
        round_trip_s: R.
    """
    size, missed = len(runs), 1 - runs[-1]
    stall_s = missed * (1 - rescued) * (round_trip_s + times.verify_s(size + 1))
    # What is drafted has to be verified, too: the verifier's rows bound the rate.
    per_pass_s = max(times.draft_s, size * times.row_s) + stall_s
    return max((sum(runs) + missed) / per_pass_s, 1 / times.plain_s)


def speed_ups(
    times: Times,
    runs: Sequence[float],
    rescued: float,
    round_trips_ms: Sequence[float] = ROUND_TRIPS_MS,
) -> list[SpeedUp]:
    """The speeds over a grid of round trips; see `streamed` for the arguments."""
    found = []
    for round_trip_s in (milliseconds / 1e3 for milliseconds in round_trips_ms):
        rate, length = stop_and_wait(times, runs, round_trip_s)
        found.append(
            SpeedUp(
                round_trip_s=round_trip_s,
                stop_and_wait=rate * times.plain_s,
                num_drafted=length,
                chain=streamed(times, runs, 0.0, round_trip_s) * times.plain_s,
                tree=streamed(times, runs, rescued, round_trip_s) * times.plain_s,
            )
        )
    return found
