"""How a call is refused over gRPC: a status, a sentence, and words for programs beside them.

Knows nothing of why.
"""

import logging
from collections.abc import Iterator
from typing import Any

import grpc

from outrider_common import log
from outrider_common.errors import (
    REASON_METADATA_KEY,
    RETRY_METADATA_KEY,
    OutriderError,
)

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]


async def abort(context: Context, error: OutriderError, *, is_logged: bool = True) -> None:
    """End a call with an error; gRPC raises, unless the caller is gone.

    Args:
        context: of the call.
        error: why.
        is_logged: whether there is an event of it.
    """
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
        return  # nobody is there to be told
    await context.abort(
        grpc.StatusCode[error.status], str(error), trailing_metadata=tuple(_metadata(error))
    )


def _metadata(error: OutriderError) -> Iterator[tuple[str, str]]:
    yield REASON_METADATA_KEY, error.reason
    if error.retry_after_s is not None:
        yield RETRY_METADATA_KEY, str(round(error.retry_after_s * 1000))
