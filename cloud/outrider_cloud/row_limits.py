"""How many rows of forward passes each tenant may use in a second.

A tenant that has used up its rows is left out of passes until some have come back. Rows are charged
when a pass has computed them, so one pass may leave a debt. Used from any thread. Knows nothing of
sessions.
"""

import threading
import time
from collections.abc import Callable, Iterable

from outrider_common.token_bucket import TokenBucket


class RowLimits:
    """A bucket of rows for each tenant that has a limit; it holds those of one second.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, TokenBucket] = {}

    def limit(self, tenant: str, rows_per_s: float | None) -> None:
        """What a tenant may use from now on; None: as much as there is."""
        with self._lock:
            if rows_per_s is None:
                self._buckets.pop(tenant, None)
                return
            bucket = self._buckets.get(tenant)
            if bucket is None or bucket.rate != rows_per_s:
                self._buckets[tenant] = TokenBucket(rows_per_s, max(1.0, rows_per_s), self._clock)

    def may_run(self, tenant: str) -> bool:
        """Whether a tenant has rows left."""
        return not self._buckets or self._wait_s(tenant) == 0.0

    def charge(self, tenant: str, num_rows: int) -> None:
        """A pass has computed rows for a tenant."""
        if not self._buckets:
            return
        with self._lock:
            if bucket := self._buckets.get(tenant):
                bucket.charge(num_rows)

    def soonest(self, tenants: Iterable[str], other_s: float | None = None) -> float | None:
        """In how many seconds one of the tenants that have none left gets rows again.

        Args:
            tenants: of those that have something to compute.
            other_s: another time to look again; None: never.

        Returns:
            The smaller one; None: none of both.
        """
        if not self._buckets:
            return other_s
        waits = [wait for wait in map(self._wait_s, set(tenants)) if wait > 0.0]
        return min([*waits, *([] if other_s is None else [other_s])], default=None)

    def _wait_s(self, tenant: str) -> float:
        """Until a bucket holds a row."""
        with self._lock:
            bucket = self._buckets.get(tenant)
            return 0.0 if bucket is None else bucket.wait_s(1.0)
