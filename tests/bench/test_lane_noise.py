"""The chances of a link have the distribution that its profile says, and a seed fixes them."""

import math
import statistics
from itertools import groupby

import pytest

from outrider_bench.lane_noise import LaneNoise
from outrider_bench.profile import Direction, LinkProfile

NUM_DRAWS = 200_000


def noise(profile: LinkProfile, seed: int = 7, direction: Direction = Direction.UP) -> LaneNoise:
    return LaneNoise(profile, seed, 1, direction)


def losses(profile: LinkProfile) -> list[bool]:
    chances = noise(profile)
    return [chances.next_is_lost() for _ in range(NUM_DRAWS)]


# The seed is fixed, so these tests do not fail by chance. Were it free, the bounds of 4.5 standard
# deviations would be exceeded with a probability below 1e-5 in each.


@pytest.mark.parametrize(("rate", "burst"), [(0.01, 1.0), (0.05, 4.0), (0.5, 1.0), (0.3, 8.0)])
def test_loss_has_its_rate_and_the_mean_length_of_its_bursts(rate: float, burst: float) -> None:
    lost = losses(LinkProfile(loss_rate=rate, loss_burst=burst))
    # A two-state chain: its eigenvalue makes neighbours correlated, which widens the mean.
    eigenvalue = 1 - 1 / burst - (1 / burst) * rate / (1 - rate)
    variance = rate * (1 - rate) * (1 + eigenvalue) / (1 - eigenvalue) / NUM_DRAWS
    assert abs(statistics.fmean(lost) - rate) <= 4.5 * math.sqrt(variance) + 1e-4
    bursts = [sum(1 for _ in run) for is_lost, run in groupby(lost) if is_lost]
    deviation = math.sqrt(burst * (burst - 1))  # of a geometric length
    assert abs(statistics.fmean(bursts) - burst) <= 4.5 * deviation / math.sqrt(len(bursts)) + 1e-3


def test_jitter_is_never_negative_and_half_of_its_mean_goes_each_way() -> None:
    chances = noise(LinkProfile(jitter_s=0.02))
    drawn = [chances.next_jitter_s() for _ in range(NUM_DRAWS)]
    assert min(drawn) >= 0
    assert abs(statistics.fmean(drawn) - 0.01) <= 4.5 * 0.01 / math.sqrt(NUM_DRAWS)
    # Exponential: a share of 1/e is above the mean.
    above = statistics.fmean(value > 0.01 for value in drawn)
    share = math.exp(-1)
    assert abs(above - share) <= 4.5 * math.sqrt(share * (1 - share) / NUM_DRAWS)


def test_a_link_without_jitter_and_loss_has_none() -> None:
    chances = noise(LinkProfile())
    assert not any(chances.next_is_lost() for _ in range(100))
    assert not any(chances.next_jitter_s() for _ in range(100))


def test_the_two_ways_have_chances_of_their_own() -> None:
    profile = LinkProfile(jitter_s=0.02)
    up, down = noise(profile), noise(profile, direction=Direction.DOWN)
    assert up.next_jitter_s() != down.next_jitter_s()


def test_jitter_does_not_depend_on_how_many_packets_were_lost() -> None:
    profile = LinkProfile(jitter_s=0.02, loss_rate=0.3)
    one, other = noise(profile), noise(profile)
    for _ in range(10):
        other.next_is_lost()
    assert one.next_jitter_s() == other.next_jitter_s()


def test_the_chances_of_a_seed_are_what_they_were() -> None:
    """Recorded runs name a seed, so a change here is a change of what they measured."""
    chances = noise(LinkProfile(jitter_s=0.02, loss_rate=0.3, loss_burst=2), seed=1)
    drawn = [round(chances.next_jitter_s() * 1e6) for _ in range(4)]
    lost = "".join("x" if chances.next_is_lost() else "." for _ in range(24))
    assert (drawn, lost) == ([20758, 19132, 6674, 3542], ".........xxx....x...xx..")
