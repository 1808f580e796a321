"""The chances of one way of one connection: jitter and loss, drawn from a seed.

Pure. The n-th number drawn is a function of (seed, connection, direction, n) alone: the same on
every machine, and whatever the time.
"""

import math
import random

from outrider_bench.profile import Direction, LinkProfile


class LaneNoise:
    """What befalls the packets of one way, in the order in which they are sent.

    Loss is Gilbert's model (E. N. Gilbert, "Capacity of a burst-noise channel", 1960), in which
    the link is either good, and loses nothing, or bad, and here loses everything. It goes from bad
    to good with probability 1 / burst after each packet, and from good to bad as often as gives
    the rate: in the long run, P(bad) = to_bad / (to_bad + to_good).

    Args:
        profile: how much jitter and loss.
        seed: another seed, other chances.
        connection: the number of the connection, from 1.
        direction: which way.
    """

    def __init__(
        self, profile: LinkProfile, seed: int, connection: int, direction: Direction
    ) -> None:
        key = f"{seed}/{connection}/{direction.value}"
        self._jitter = random.Random(f"{key}/jitter")
        self._loss = random.Random(f"{key}/loss")
        self._mean_jitter_s = profile.jitter_s / 2
        self._to_good = 1 / profile.loss_burst
        self._to_bad = self._to_good * profile.loss_rate / (1 - profile.loss_rate)
        self._is_bad = False

    def next_jitter_s(self) -> float:
        """Seconds that what is sent next takes longer: exponentially distributed."""
        if self._mean_jitter_s == 0:
            return 0.0
        # The inverse of the distribution function at a uniform number in (0, 1].
        return -self._mean_jitter_s * math.log(1 - self._jitter.random())

    def next_is_lost(self) -> bool:
        """Whether the next packet is lost."""
        if self._to_bad == 0:
            return False
        turn = self._to_good if self._is_bad else self._to_bad
        if self._loss.random() < turn:
            self._is_bad = not self._is_bad
        return self._is_bad
