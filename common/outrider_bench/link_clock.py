"""The time of one connection, which stands still while its link is frozen.

Pure: told what the time is, never asking. Knows nothing of what happens at which time.
"""

import math


class LinkClock:
    """Link time: the seconds since a connection was opened in which its link was not frozen.

    All times told must not run backwards.

    Args:
        opened_s: the time of the wall clock when link time is 0.
    """

    def __init__(self, opened_s: float) -> None:
        self._offset_s = opened_s  # and all freezes that are over
        self._frozen_from_s = math.inf  # the last freeze, which may be over too
        self._frozen_until_s = math.inf

    def freeze(self, now_s: float, for_s: float = math.inf) -> None:
        """Let link time stand still; a freeze that lasts longer already goes on."""
        until_s = now_s + for_s
        if now_s < self._frozen_until_s and self.is_frozen(now_s):
            self._frozen_until_s = max(self._frozen_until_s, until_s)
            return
        self._forget_last_freeze()
        self._frozen_from_s, self._frozen_until_s = now_s, until_s

    def thaw(self, now_s: float) -> None:
        """End a freeze at once."""
        if self.is_frozen(now_s):
            self._frozen_until_s = now_s

    def is_frozen(self, now_s: float) -> bool:
        """Whether link time stands still."""
        return self._frozen_from_s <= now_s < self._frozen_until_s

    def link_s(self, now_s: float) -> float:
        """The link time at a time of the wall clock, now or later."""
        if now_s < self._frozen_from_s:
            return now_s - self._offset_s
        frozen_s = min(now_s, self._frozen_until_s) - self._frozen_from_s
        return now_s - self._offset_s - frozen_s

    def wall_s(self, link_s: float) -> float:
        """When a link time has come, by what is known of freezes; infinite if it never comes."""
        wall_s = link_s + self._offset_s
        if wall_s < self._frozen_from_s:
            return wall_s
        return wall_s + (self._frozen_until_s - self._frozen_from_s)

    def _forget_last_freeze(self) -> None:
        if self._frozen_from_s < math.inf:
            self._offset_s += self._frozen_until_s - self._frozen_from_s
            self._frozen_from_s = self._frozen_until_s = math.inf
