"""Whether a node arrives in time: before the verifier has begun the pass that decides its position.

Pure. Knows the pace of things and when the latest pass ended; nothing of trees or messages.
"""

import math
from dataclasses import dataclass
from typing import Final

from outrider_edge.estimators import Estimates

_LEAST_SPREAD: Final = 0.1
"""Starts of passes are foreseen no better than to this share of the time between them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things are; see `Estimates`. Times in seconds.

    Attributes:
        interval_s: between the starts of two passes, above 0.
        spread_s: the standard deviation of when a pass begins.
        queue_s: from a commit to the start of the next pass.
        round_trip_s: between sending a node and hearing of it, the pass left out.
        draft_s: to draft one node.
    """

    interval_s: float
    spread_s: float
    queue_s: float
    round_trip_s: float
    draft_s: float

    @classmethod
    def of(cls, estimates: Estimates) -> "Pace | None":
        """The pace by these estimates; None while too little is known."""
        interval_s = estimates.interval_s
        if not interval_s or estimates.draft_s is None:
            return None
        return cls(
            interval_s,
            max(estimates.interval_spread_s, _LEAST_SPREAD * interval_s),
            estimates.queue_s or 0.0,
            estimates.round_trip_s or 0.0,
            estimates.draft_s,
        )


@dataclass(frozen=True, slots=True)
class Forecast:
    """Foresees the verifier's next passes, as of one moment.

    All times are the edge's: a pass "begins" when the edge would hear of it if news took no time
    after the pass but the way down, and a node "arrives" a whole round trip after it was drafted.
    Shifting both by the way down keeps their order, which is all that counts.

    On a path whose guesses are right, let g(i) be when the pass begins that decides the path's
    i-th position, a(i) when its node arrives, and tau the time between passes. The first pass
    begins behind the latest commit. A node is in time iff a(i) <= g(i). Where it is, the same pass
    goes on to the next position; where it is not, the verifier decides the position by itself and
    the next pass decides the next one:

        q(i) = Phi((g(i) - a(i)) / spread),    g(i + 1) = g(i) + (1 - q(i)) tau,

    with the expected start in place of the random one. A chain whose nodes take longer to draft
    than tau therefore never arrives, a far verifier is met by looking many positions ahead, and a
    sibling of a node that is already there is too late.

    Attributes:
        pace: None while it is not known: then everything is taken to be in time.
        committed_at_s: when the latest commit came; None before the first, when the verifier is
            still busy with the prompt: everything is in time then, too.
        now_s: the moment.
    """

    pace: Pace | None
    committed_at_s: float | None
    now_s: float

    @property
    def first_start_s(self) -> float:
        """When the pass begins that decides the first position behind the frontier."""
        if self.pace is None or self.committed_at_s is None:
            return math.inf
        return self.committed_at_s + self.pace.queue_s

    def chance(self, start_s: float, arrival_s: float) -> float:
        """The chance that a node arrives before a pass begins."""
        if self.pace is None or math.isinf(start_s):
            return 1.0
        return 0.5 + 0.5 * math.erf((start_s - arrival_s) / (self.pace.spread_s * math.sqrt(2)))

    def next_start_s(self, start_s: float, chance: float) -> float:
        """When the pass begins that decides the position below a node.

        Args:
            start_s: when the pass begins that decides the node's own position.
            chance: that the node arrives before it.
        """
        if self.pace is None or math.isinf(start_s):
            return start_s
        # A pass that has begun and of which nothing was heard yet lasts until now at least.
        return start_s + (1 - chance) * max(self.pace.interval_s, self.now_s - start_s)

    def arrival_s(self, sent_at_s: float) -> float:
        """When a node arrives that was sent at this time."""
        return sent_at_s + (self.pace.round_trip_s if self.pace else 0.0)

    def arrival_of_step_s(self, step: int, room: int) -> float:
        """When a node arrives that is drafted `step` nodes from now; 1 for the next.

        Where there is room for fewer nodes, the others wait until commits make some, one a pass.
        """
        if self.pace is None:
            return self.now_s
        drafting_s = step * self.pace.draft_s
        waiting_s = (step - room) * self.pace.interval_s
        return self.arrival_s(self.now_s + max(drafting_s, waiting_s))
