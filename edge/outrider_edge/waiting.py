"""Whether nodes wait for those that are being drafted, so that they travel in one message.

Pure. Knows when passes are expected to begin; nothing of trees or messages.
"""

import math
from typing import Final

from outrider_edge.arrival import Forecast, Pace

MESSAGE_WORTH: Final = 0.05
"""What a message less is worth, in passes."""

DRAFT_SLACK: Final = 1.25
"""A run that takes longer than this many times its usual time is not waited for."""

_FAR: Final = 4.0
"""So many standard deviations away, a chance is 0 or 1."""


def may_wait(forecast: Forecast, until_s: float) -> bool:
    """Whether a node may go later, at the price of less than a message.

    Args:
        forecast: as of now.
        until_s: when it would be sent.
    """
    pace = forecast.pace
    if pace is None or math.isinf(forecast.first_start_s):
        return False
    if max(until_s - forecast.now_s, pace.spread_s) > pace.interval_s:
        return False  # a whole pass would be missed, or no start can be foreseen
    return passes_missed(forecast, pace, until_s) < MESSAGE_WORTH


def passes_missed(forecast: Forecast, pace: Pace, until_s: float) -> float:
    """How many passes a node misses on average by being sent later.

    The sum, over all passes to come, of the chance that it is there if it goes now, less the chance
    if it goes later. Which of them decides its position is left open: any may.
    """
    early_s, late_s = forecast.arrival_s(forecast.now_s), forecast.arrival_s(until_s)
    first_s, tau_s, far_s = forecast.first_start_s, pace.interval_s, _FAR * pace.spread_s
    first = max(math.floor((early_s - far_s - first_s) / tau_s), 0)
    last = math.ceil((late_s + far_s - first_s) / tau_s)
    starts = (first_s + k * tau_s for k in range(first, last + 1))
    return sum(forecast.chance(s, early_s) - forecast.chance(s, late_s) for s in starts)
