"""Clients that ask slowly, or not at all, do not keep their connections."""

import asyncio
import contextlib
from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final

import pytest
from api_client import CHAT, HI, a_serving
from fake_runtime import ANSWER, FakeRuntime
from http_daemon import listening

from outrider_edge import patient_protocol
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.http_exchange import encode_json
from outrider_edge.serving import Serving

PATIENCE_S: Final = 0.3
HANGS_S: Final = 30.0
"""Whatever lasts longer hangs."""

BODY: Final = encode_json(HI)
HEAD: Final = (
    f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    f"content-length: {len(BODY)}\r\n\r\n"
).encode()
HEALTH: Final = b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
ENDLESS_HEAD: Final = [b"GET / HTTP/1.1\r\n", *repeat(b"a: b\r\n", 1000)]


def impatient(runtime: ServingRuntime | None = None) -> Serving:
    return a_serving(runtime or FakeRuntime(), port=0, client_timeout_s=PATIENCE_S)


async def all_that_comes(port: int, pieces: Iterable[bytes]) -> bytes:
    """Send piece by piece until the daemon closes the connection; what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def trickle() -> None:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(PATIENCE_S / 20)

    trickling = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(HANGS_S):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        trickling.cancel()
        writer.close()


@pytest.mark.parametrize(
    ("pieces", "says"),
    [
        ([], b""),
        ([HEAD[:30]], b""),
        (ENDLESS_HEAD, b""),
        ([HEAD, BODY, *ENDLESS_HEAD], ANSWER.encode()),
        ([HEALTH, *repeat(b"x", 1000)], b'"ok"'),
        ([HEAD, *(bytes([byte]) for byte in BODY * 100)], b"408"),
    ],
    ids=["nothing", "half a head", "slow head", "slow second head", "unread body", "slow body"],
)
async def test_a_client_that_is_slow_to_ask_loses_its_connection(
    pieces: list[bytes], says: bytes
) -> None:
    async with listening(impatient()) as port:
        assert says in await all_that_comes(port, pieces)


async def test_an_answer_may_take_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Any = FakeRuntime.generate

    async def slowly(self: FakeRuntime, *args: Any, **options: Any) -> Any:
        await asyncio.sleep(4 * PATIENCE_S)
        return await whole(self, *args, **options)

    monkeypatch.setattr(FakeRuntime, "generate", slowly)
    async with listening(impatient()) as port:
        head = HEAD.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)
        assert ANSWER.encode() in await all_that_comes(port, [head, BODY])


async def test_there_are_only_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_protocol, "MAX_CONNECTIONS", 3)
    serving = a_serving(FakeRuntime(), port=0)
    async with listening(serving) as port, contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        assert await all_that_comes(port, [HEALTH]) == b""
