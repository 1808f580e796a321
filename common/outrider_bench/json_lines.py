"""The players' side of the pipe: commands as lines of JSON on standard input, replies on output.

A command names what to do; its reply is a line of JSON, or the sentence of an error. Knows nothing
of what is done.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TextIO, TypeAlias

from outrider_common.errors import OutriderError

Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


def take_output() -> TextIO:
    """Standard output for replies alone: whatever else is printed goes to standard error."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return replies


async def serve(replies: TextIO, handlers: Mapping[str, Handler]) -> None:
    """Do one command after the other, until there are no more."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        reply(replies, await _answer(handlers[command.pop("do")], command))


def reply(replies: TextIO, document: Mapping[str, Any]) -> None:
    """Write one reply."""
    replies.write(json.dumps(document) + "\n")
    replies.flush()


def refusal(error: OutriderError) -> dict[str, str]:
    """An error as a reply."""
    return {"error": str(error), "reason": error.reason}


async def _answer(handler: Handler, command: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return await handler(command)
    except OutriderError as error:
        return refusal(error)
