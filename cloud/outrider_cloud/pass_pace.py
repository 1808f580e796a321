"""How long the next pass takes, about, as a verifier tells edges that choose among several.

Pure: times are passed in. Knows nothing of rows and what they cost.
"""

from typing import Final

MEMORY_PASSES: Final = 16.0
"""Passes after which one counts for 1/e."""


class PassPace:
    """The faded mean of what passes took, while they run; at rest, what they took at the start.

    What a verifier took when it was last busy, and perhaps disturbed, would stay true for ever of
    one that nobody chooses because of it.
    """

    def __init__(self) -> None:
        self._at_rest_s = 0.0
        self._busy_s = 0.0

    def measured_at_rest(self, seconds: float) -> None:
        """A pass of one row took so long, with nothing else to do."""
        self._at_rest_s = seconds

    def passed(self, seconds: float) -> None:
        """A pass took so long."""
        before_s = self._busy_s or seconds
        self._busy_s = before_s + (seconds - before_s) / MEMORY_PASSES

    def expected_s(self, is_at_rest: bool) -> float:
        """How long the next one takes; 0: nothing is known yet."""
        if is_at_rest:
            return self._at_rest_s or self._busy_s
        return self._busy_s or self._at_rest_s
