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
        self._still_until_s = opened_s  # the end of the last freeze, which may be to come
        self._still_at_s = 0.0  # the link time in that freeze

    def freeze(self, now_s: float, for_s: float = math.inf) -> None:
        """Let link time stand still; a freeze that lasts longer already goes on."""
        until_s = now_s + for_s
        if self.is_frozen(now_s):
            self._still_until_s = max(self._still_until_s, until_s)
        else:
            self._still_at_s, self._still_until_s = self.link_s(now_s), until_s

    def thaw(self, now_s: float) -> None:
        """End a freeze at once."""
        if self.is_frozen(now_s):
            self._still_until_s = now_s

    def is_frozen(self, now_s: float) -> bool:
        """Whether link time stands still."""
        return now_s < self._still_until_s

    def link_s(self, now_s: float) -> float:
        """The link time at a time of the wall clock."""
        return self._still_at_s + max(0.0, now_s - self._still_until_s)

    def wall_s(self, link_s: float) -> float:
        """When a link time comes that is now or to come; infinite if it never does."""
        return self._still_until_s + max(0.0, link_s - self._still_at_s)
