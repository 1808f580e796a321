"""Messages of one stream, read no faster than allowed.

What is not read yet waits at the edge: gRPC's flow control lets only so many bytes come. Knows
nothing of what the messages say.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from outrider_common.token_bucket import TokenBucket

_Message = TypeVar("_Message")


async def paced(messages: AsyncIterator[_Message], bucket: TokenBucket) -> AsyncIterator[_Message]:
    """The same messages; after each one that the bucket has no room for, a pause."""
    async for message in messages:
        bucket.charge(1.0)
        yield message
        if (wait_s := bucket.wait_s()) > 0.0:
            await asyncio.sleep(wait_s)
