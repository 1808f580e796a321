"""What a hostile program on the device may send to the daemon, as bytes on a socket."""

import asyncio
import contextlib
import json
import random
import re
from collections.abc import AsyncIterator
from typing import Any, Final

from api_client import CHAT, COMPLETIONS, HI, a_serving
from bad_data import mutated, random_bytes, random_json
from fake_runtime import ANSWER, FakeRuntime
from fuzzing import Attack

from outrider_edge.daemon import http_server
from outrider_edge.http_exchange import encode_json
from outrider_edge.listening import listening_sockets

PATIENCE_S: Final = 10.0

CUT_OFF_S: Final = 0.1
"""A request without an answer by then is taken to be cut off; the client says that this was all."""

CLEAN: Final = {200, 400, 403, 404, 405, 408, 411, 413, 414, 415, 421, 429, 431}

_NAMES: Final = (
    "model", "messages", "prompt", "max_tokens", "max_completion_tokens", "temperature", "top_p",
    "top_k", "min_p", "seed", "stop", "n", "stream", "stream_options", "logprobs", "top_logprobs",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "response_format", "tools",
    "outrider", "echo", "user",
)  # fmt: skip


@contextlib.asynccontextmanager
async def http_surface() -> AsyncIterator["HttpSurface"]:
    """The daemon's own server on a socket, over a runtime in memory."""
    serving = a_serving(FakeRuntime(), port=0, max_body_bytes=4096, client_timeout_s=0.5)
    with listening_sockets(serving.settings) as sockets:
        server = http_server(serving)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve(sockets))
            try:
                yield HttpSurface(sockets[0].getsockname()[1])
            finally:
                server.should_exit = True


class HttpSurface:
    """Requests that are nearly right, or not at all."""

    name = "http"

    def __init__(self, port: int) -> None:
        self._port = port

    async def attack(self, coins: random.Random) -> Attack:
        """One connection, one request."""
        request = _request(coins)
        if coins.random() < 0.3:
            request = mutated(request, coins)
        hangs_up = coins.random() < 0.05
        try:
            answer = await asyncio.wait_for(
                self._exchange(request, 0 if hangs_up else CUT_OFF_S), PATIENCE_S
            )
        except TimeoutError:
            return Attack(1, f"no answer within {PATIENCE_S:g} s")
        return Attack(1, None if hangs_up else _complaint_about(answer))

    async def _exchange(self, request: bytes, patience_s: float) -> bytes:
        """The answer, as far as it comes; with no patience, nothing is waited for."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(request)
            if not patience_s:
                return b""
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(reader.read(), patience_s)
            writer.write_eof()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def complaint_afterwards(self) -> str | None:
        """It still answers."""
        answer = await self._exchange(_post(CHAT, encode_json(HI)), PATIENCE_S)
        return None if ANSWER.encode() in answer else f"a good request got {answer[:200]!r}"


def _complaint_about(answer: bytes) -> str | None:
    if not answer:
        return None  # the request was not whole, or no HTTP
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(maxsplit=2)
    if len(words) < 2 or not words[1].isdigit():
        return f"no HTTP: {answer[:80]!r}"
    status = int(words[1])
    if status not in CLEAN:
        return f"status {status}: {body[:200]!r}"
    if status >= 400 and b"application/json" in head.lower():
        return _complaint_about_error(body[: _length(head)])
    return None


def _length(head: bytes) -> int:
    """How long the body is: bytes that were left over are answered as another request."""
    found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


def _complaint_about_error(body: bytes) -> str | None:
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"an error in another form: {body[:200]!r}"
    is_sentence = isinstance(message, str) and message and "Traceback" not in message
    return None if is_sentence else f"no sentence: {message!r}"


def _request(coins: random.Random) -> bytes:
    route = coins.choice((CHAT, CHAT, COMPLETIONS, "/v1/models/" + "x" * coins.randrange(300)))
    match coins.randrange(10):
        case 0:
            return random_bytes(coins, 400)
        case 1:
            return _post(route, random_bytes(coins, 400))
        case 2:
            return _post(route, encode_json(random_json(coins)))
        case 3:
            return _post(route, mutated(encode_json(_body(coins)), coins))
        case 4:
            return _post(route, b"[" * coins.choice((10, 3000)) + b"]")
    return _post(route, encode_json(_body(coins)))


def _body(coins: random.Random) -> dict[str, Any]:
    """A good request but for some fields."""
    body: dict[str, Any] = dict(HI)
    for name in coins.sample(_NAMES, coins.choice((1, 1, 2, 4))):
        body[name] = random_json(coins)
    if coins.random() < 0.2:
        body["messages"] = [{"role": "user", "content": random_json(coins)}]
    return body


def _post(route: str, body: bytes) -> bytes:
    head = (
        f"POST {route} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
