"""One HTTP exchange over ASGI: reading a body within limits, sending, and noticing who has gone.

Knows nothing of what is said.
"""

import asyncio
import json
from collections.abc import Coroutine, Mapping
from typing import Any, Final, TypeVar

from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from outrider_common.spans import TRACE_FIELDS
from outrider_common.spans import Headers as TraceHeaders
from outrider_edge.openai_errors import BadRequestError, ErrorAnswer

_T = TypeVar("_T")

JSON_HEADERS: Final = {"content-type": "application/json"}
EVENT_STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


class ClientGoneError(Exception):
    """The client has hung up, or takes nothing any more."""


def encode_json(document: object) -> bytes:
    """JSON in UTF-8; half a surrogate pair, which has no UTF-8, is escaped."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def encode_event(document: object) -> bytes:
    """A server-sent event."""
    return b"data: " + encode_json(document) + b"\n\n"


class Exchange:
    """One request and its response.

    Args:
        scope: of ASGI.
        receive: of ASGI.
        send: of ASGI.
        request_id: a name for it; the response carries it as `x-request-id`.
        client_timeout_s: how long the client may take for its request, and for each part of the
            response.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        request_id: str,
        client_timeout_s: float,
    ) -> None:
        self._headers = Headers(scope=scope)
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._client_timeout_s = client_timeout_s
        self._status: int | None = None
        self._is_over = False

    @property
    def request_id(self) -> str:
        """The name of this request."""
        return self._request_id

    def header(self, name: str) -> str | None:
        """What the request says in a header; None if it has none of that name."""
        return self._headers.get(name)

    def trace_headers(self) -> TraceHeaders:
        """What the request says of the trace that it is part of; not checked.

        Fields that are there twice are joined, as HTTP has it: a second `traceparent` spoils it.
        """
        said = ((name, ",".join(self._headers.getlist(name))) for name in TRACE_FIELDS)
        return tuple((name, value) for name, value in said if value)

    @property
    def status(self) -> int | None:
        """What the client was told; None if nothing yet."""
        return self._status

    async def read(self, max_bytes: int) -> bytes:
        """The whole body.

        Raises:
            BadRequestError: it is too large, or too slow.
            ClientGoneError: there will be no more of it.
        """
        self._refuse_above(max_bytes, self._announced_length)
        try:
            async with asyncio.timeout(self._client_timeout_s):
                return await self._read_all(max_bytes)
        except TimeoutError:
            raise BadRequestError(
                f"The request was not complete after {self._client_timeout_s:g} seconds; send it "
                "faster.",
                http_status=408,
            ) from None

    @property
    def _announced_length(self) -> int:
        text = self._headers.get("content-length", "")
        return int(text) if text.isdecimal() else 0

    async def _read_all(self, max_bytes: int) -> bytes:
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            body += message.get("body", b"")
            self._refuse_above(max_bytes, len(body))
            if not message.get("more_body", False):
                return bytes(body)

    def _refuse_above(self, max_bytes: int, num_bytes: int) -> None:
        if num_bytes > max_bytes:
            raise BadRequestError(
                f"The request has {num_bytes} bytes or more, but at most {max_bytes} are read; "
                "send less, or raise --max-body-bytes.",
                http_status=413,
            )

    async def unless_gone(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do some work; stop in the middle when the client hangs up.

        Raises:
            ClientGoneError: it has.
        """
        working = asyncio.create_task(work, name="answer")
        watching = asyncio.create_task(self._gone(), name="watch-client")
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientGoneError
            return working.result()
        finally:
            working.cancel()
            watching.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the status and the headers."""
        self._status = status
        named = {**headers, "x-request-id": self._request_id}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
        await self._say({"type": "http.response.start", "status": status, "headers": raw})

    async def more(self, body: bytes) -> None:
        """Send a part of the body.

        Raises:
            ClientGoneError: the client does not take it.
        """
        await self._say({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes = b"") -> None:
        """Send the last part of the body; raises as `more` does."""
        self._is_over = True
        await self._say({"type": "http.response.body", "body": body, "more_body": False})

    async def keep_alive(self) -> None:
        """Send a comment in a stream of events, and begin it if need be; raises as `more` does."""
        if self._is_over:
            return
        if self._status is None:
            await self.start(200, EVENT_STREAM_HEADERS)
        await self.more(b": waiting for a verifier\n\n")

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a whole response."""
        await self.start(status, {**headers, "content-length": str(len(body))})
        await self.end(body)

    async def reply_error(self, answer: ErrorAnswer) -> None:
        """Send an error as a whole response."""
        await self.reply(answer.status, encode_json(answer.body), JSON_HEADERS | answer.headers)

    async def _say(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._client_timeout_s):
                await self._send(message)
        except OSError:  # a TimeoutError is one
            raise ClientGoneError from None
