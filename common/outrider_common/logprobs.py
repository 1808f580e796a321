"""What the target thinks of a token: its log-probability, and the likeliest tokens at its position.

By the target's own distribution: before temperature, penalties and truncation, as in OpenAI's API.
"""

from dataclasses import dataclass
from typing import Final

MAX_TOP_LOGPROBS: Final = 20
"""So many of the likeliest tokens at each position an edge may ask for."""


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The log-probabilities at one committed position.

    Attributes:
        logprob: of the token that stands there, in nats.
        top: the likeliest tokens there with theirs, the best first; the one that stands there may
            be among them, or not.
    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()
