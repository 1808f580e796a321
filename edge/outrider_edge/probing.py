"""When to try again, where drafting does not pay.

An edge that has stopped drafting learns nothing, so it drafts a few nodes now and then. Pure:
counts committed positions, not seconds. Knows nothing of why drafting did not pay.
"""

from typing import Final

FIRST_REST: Final = 16
LONGEST_REST: Final = 512
"""Committed positions between two probes: so many at first, twice as many each time, up to this."""

CALLS_PER_PROBE: Final = 4
"""A probe asks the proposer so often."""


class Probing:
    """Exponential back-off between probes, bounded; drafting that goes on paying starts it anew.

    A drafter that never pays is asked `CALLS_PER_PROBE` times in `LONGEST_REST` positions in the
    end, under one call in a hundred positions.
    """

    def __init__(self) -> None:
        self._rest = FIRST_REST
        self._next_at: int | None = None  # None: drafting pays
        self._pays_since = 0
        self._calls_left = 0
        self._num_rests = 0
        self._num_probes = 0

    @property
    def num_rests(self) -> int:
        """How often drafting was stopped because it did not pay."""
        return self._num_rests

    @property
    def num_probes(self) -> int:
        """How often it was tried again."""
        return self._num_probes

    @property
    def is_probing(self) -> bool:
        """Whether a probe has begun and has calls left."""
        return self._calls_left > 0

    def pays(self, position: int) -> None:
        """Drafting is estimated to pay.

        Args:
            position: the last committed one.
        """
        if self._next_at is not None:
            self._next_at, self._calls_left, self._pays_since = None, 0, position
        elif position - self._pays_since >= FIRST_REST:
            self._rest = FIRST_REST

    def may_ask(self, position: int) -> bool:
        """Drafting is estimated not to pay: whether to ask the proposer all the same.

        Args:
            position: the last committed one.
        """
        if self._next_at is None:
            self._num_rests += 1
            self._next_at = position + self._rest
        if not self.is_probing and position >= self._next_at:
            self._num_probes += 1
            self._calls_left = CALLS_PER_PROBE
            self._rest = min(2 * self._rest, LONGEST_REST)
            self._next_at = position + self._rest
        allowed = self.is_probing
        self._calls_left -= allowed
        return allowed
