"""Logs that a verifier is awaited: at once, when the reason changes, and else ever more seldom.

An hour's wait shall not fill a disk, and shall not look like silence either. Knows nothing of how
the verifier is looked for.
"""

import logging
import time
from collections.abc import Callable
from typing import Final

from outrider_common import log

_logger = logging.getLogger(__name__)

FIRST_GAP_S: Final = 60.0
LONGEST_GAP_S: Final = 3600.0
"""How long the same reason is not said again, at first and at most; each gap is twice the last."""


class AwaitedVerifier:
    """What was said of a verifier that is not there.

    Args:
        clock: seconds, such as `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self._reason = ""
        self._gap_s = FIRST_GAP_S
        self._again_at_s = 0.0

    def missed(self, reason: str) -> None:
        """It could not be reached, for this reason."""
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
        if reason != self._reason:
            self._reason, self._gap_s = reason, FIRST_GAP_S
        elif now_s < self._again_at_s:
            return
        else:
            self._gap_s = min(2 * self._gap_s, LONGEST_GAP_S)
        self._again_at_s = now_s + self._gap_s
        waited_s = round(now_s - self._since_s, 1)
        log.event(
            _logger, "verifier_awaited", level=logging.WARNING, waited_s=waited_s, reason=reason
        )

    def found(self) -> None:
        """It is there; that is said only where it was missed."""
        if self._since_s is not None:
            waited_s = round(self._clock() - self._since_s, 1)
            log.event(_logger, "verifier_found", waited_s=waited_s)
        self._since_s, self._reason = None, ""
