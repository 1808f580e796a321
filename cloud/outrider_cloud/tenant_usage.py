"""What each tenant uses now, and who is turned away because of it.

Sessions, how fast they are opened, and tokens that they may come to hold. Checked before any work
is done. Used by one thread. Knows nothing of rows: those are `row_limits`' business.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from outrider_cloud.authentication import Caller
from outrider_common.errors import QuotaError
from outrider_common.token_bucket import TokenBucket

_RETRY_S: Final = 1.0
"""When to try again where that depends on how long sessions take."""


class TenantUsage:
    """What is used, by the name of the tenant.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._num_sessions: Counter[str] = Counter()
        self._num_held: Counter[str] = Counter()
        self._openings: dict[str, TokenBucket] = {}

    @contextmanager
    def session(self, caller: Caller) -> Iterator[None]:
        """While a session of a caller is open.

        Raises:
            QuotaError: its tenant has too many, or opens them too fast.
        """
        self._refuse_session(caller)
        self._num_sessions[caller.tenant] += 1
        try:
            yield
        finally:
            _take_off(self._num_sessions, caller.tenant, 1)

    @contextmanager
    def held(self, caller: Caller, num_tokens: int) -> Iterator[None]:
        """While a session may come to hold so many tokens.

        Raises:
            QuotaError: together with its tenant's others, these are too many.
        """
        most = caller.quotas.max_held_tokens
        used = self._num_held[caller.tenant]
        if most is not None and used + num_tokens > most:
            raise QuotaError(
                f"A session of up to {num_tokens} tokens beside {used} of its others is more than "
                f"the {most} that the tenant '{caller.tenant}' may hold; ask for fewer "
                "max_tokens, or try again when others have ended.",
                retry_after_s=_RETRY_S if num_tokens <= most else None,
            )
        self._num_held[caller.tenant] += num_tokens
        try:
            yield
        finally:
            _take_off(self._num_held, caller.tenant, num_tokens)

    def _refuse_session(self, caller: Caller) -> None:
        most, used = caller.quotas.max_sessions, self._num_sessions[caller.tenant]
        if most is not None and used >= most:
            raise QuotaError(
                f"The tenant '{caller.tenant}' has all {most} sessions open that it may have; try "
                "again when one has ended.",
                retry_after_s=_RETRY_S,
            )
        rate = caller.quotas.sessions_per_s
        wait_s = 0.0 if rate is None else self._bucket(caller.tenant, rate).take()
        if wait_s:
            raise QuotaError(
                f"The tenant '{caller.tenant}' may open {rate:g} sessions a second and has opened "
                f"more; try again in {wait_s:.1f} s.",
                retry_after_s=wait_s,
            )

    def _bucket(self, tenant: str, rate: float) -> TokenBucket:
        bucket = self._openings.get(tenant)
        if bucket is None or bucket.rate != rate:
            bucket = self._openings[tenant] = TokenBucket(rate, max(1.0, rate), self._clock)
        return bucket


def _take_off(counter: Counter[str], tenant: str, amount: int) -> None:
    counter[tenant] -= amount
    if not counter[tenant]:
        del counter[tenant]
