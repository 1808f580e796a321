"""How often peers failed to say who they are, by address.

Whoever can say it is let in whatever others at the same address do: a token cannot be found by
trying, so the limit is there to keep logs and answers short, and must lock nobody out. Remembers
only so many addresses. Knows nothing of tokens.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from outrider_common.token_bucket import TokenBucket

ATTEMPTS_PER_S: Final = 0.2
BURST: Final = 10.0
MAX_ADDRESSES: Final = 4096


class FailedAttempts:
    """A bucket for each address that has failed of late.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def count(self, peer: str) -> float:
        """One more has failed.

        Args:
            peer: address and port as gRPC has them, such as `ipv4:192.0.2.1:40000`.

        Returns:
            0.0, or, if there were too many, for how many seconds the peer should be quiet.
        """
        address = peer.rpartition(":")[0]
        bucket = self._buckets.pop(address, None)
        if bucket is None:
            bucket = TokenBucket(ATTEMPTS_PER_S, BURST, self._clock)
        self._buckets[address] = bucket
        if len(self._buckets) > MAX_ADDRESSES:
            self._buckets.popitem(last=False)
        return bucket.take()
