"""How a call is refused over gRPC: a status, a sentence, and words for programs beside them.

Knows nothing of why.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import grpc

from outrider_common import log
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    OutriderError,
)

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


QUIET_S: Final = 0.05
MOST_READING_S: Final = 1.0
"""What an edge is still writing is read until nothing comes for so long, for so long at most."""


async def abort(
    context: Context,
    error: OutriderError,
    requests: AsyncIterator[Any] | None = None,
    *,
    is_logged: bool = True,
) -> None:
    """End a call with an error; never returns, for gRPC raises.

    Args:
        context: of the call.
        error: why.
        requests: what the caller may still be writing. It is read first: the status of a call is
            lost to a client of asyncio that is writing when the call ends.
        is_logged: whether there is an event of it.
    """
    if requests is not None:
        await _read_to_quiet(requests)
    if is_logged:
        log.event(
            _logger,
            "request_refused",
            level=logging.WARNING,
            reason=error.reason,
            why=str(error),
            peer=context.peer(),
        )
    if context.done():
        raise grpc.aio.AbortError("nobody is there to be told")
    await context.abort(
        grpc.StatusCode[error.status], str(error), trailing_metadata=tuple(_metadata(error))
    )


async def _read_to_quiet(requests: AsyncIterator[Any]) -> None:
    with contextlib.suppress(TimeoutError, OutriderError):
        async with asyncio.timeout(MOST_READING_S):
            while await asyncio.wait_for(anext(aiter(requests), None), QUIET_S) is not None:
                pass


def _metadata(error: OutriderError) -> Iterator[tuple[str, str]]:
    yield REASON_METADATA_KEY, error.reason
    if error.retry_after_s is not None:
        yield RETRY_METADATA_KEY, str(round(error.retry_after_s * 1000))
