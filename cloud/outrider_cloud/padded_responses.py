"""Responses of one size on a fixed beat, so that nobody on the way can tell what was accepted.

Knows nothing of what the responses say. Why, and what it does not hide: docs/security.md.
"""

import asyncio
from collections.abc import AsyncIterator

from outrider.v1 import verifier_pb2 as pb
from outrider_common.padding import padded

Responses = AsyncIterator[pb.SessionResponse]


async def on_ticks(responses: Responses, pad_ms: int) -> Responses:
    """The same responses, one on each tick at most, and an empty one where there is none.

    Args:
        responses: as they come; an error comes out on the next tick.
        pad_ms: from tick to tick; 0: as they come, and as they are.
    """
    if not pad_ms:
        async for response in responses:
            yield response
        return
    loop, tick_s = asyncio.get_running_loop(), pad_ms / 1000
    due = loop.time()
    upcoming = asyncio.ensure_future(_next(responses))
    try:
        while True:
            due = max(due + tick_s, loop.time())
            await asyncio.sleep(due - loop.time())
            if not upcoming.done():
                yield padded(pb.SessionResponse())
                continue
            found = upcoming.result()
            if found is None:
                return
            upcoming = asyncio.ensure_future(_next(responses))
            yield padded(found)
    finally:
        upcoming.cancel()


async def _next(responses: Responses) -> pb.SessionResponse | None:
    return await anext(responses, None)
