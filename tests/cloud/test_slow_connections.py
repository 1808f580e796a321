"""Connections that never say what they want do not stay open."""

import asyncio

import pytest
from fake_engine import an_engine

from outrider_cloud import server
from outrider_cloud.server import running_server

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HANGS_S = 30.0
"""Whatever lasts longer hangs."""


@pytest.mark.parametrize("said", [b"", PREFACE[:5], PREFACE, b"\x16\x03\x01"])
async def test_a_connection_without_a_handshake_is_closed(
    monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_MS", 300)
    engine = an_engine()
    engine.start()
    try:
        async with running_server(engine, "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            async with asyncio.timeout(HANGS_S):
                await reader.read()
            writer.close()
    finally:
        engine.stop()
