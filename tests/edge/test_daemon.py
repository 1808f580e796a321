"""The daemon's HTTP server on real sockets, over a runtime in memory."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from api_client import CHAT, HI, a_serving, events_of, text_of
from fake_runtime import ANSWER, FakeRuntime, a_record, a_result_stats
from http_daemon import listening

from outrider_common.config import Settings
from outrider_common.errors import ConfigError
from outrider_common.messages import FinishReason
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.answer import OnToken
from outrider_edge.daemon import serve
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.serving import Serving
from outrider_edge.tracing import TraceRecorder
from outrider_models.store import ModelStore

STREAM = HI | {"stream": True}
MEBIBYTE = "x" * (1 << 20)


async def ask(port: int, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request by hand, whose answer nobody has read yet."""
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    return reader, writer


async def until_free(serving: Serving) -> None:
    """The test's own time limit is the only one."""
    while serving.slots.num_taken:  # noqa: ASYNC110 - nothing to wait for
        await asyncio.sleep(0.01)


async def test_both_sockets_are_served_at_once(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    serving = a_serving(FakeRuntime(), port=0, socket=path)
    async with listening(serving) as port:
        for transport, url in (
            (httpx2.AsyncHTTPTransport(), f"http://127.0.0.1:{port}"),
            (httpx2.AsyncHTTPTransport(uds=str(path)), "http://localhost"),
        ):
            async with httpx2.AsyncClient(transport=transport, base_url=url) as client:
                events = events_of((await client.post(CHAT, json=STREAM)).text)
            assert text_of(events) == ANSWER


async def test_text_is_sent_while_the_rest_is_still_being_written() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    async with (
        listening(a_serving(runtime, port=0)) as port,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        client.stream("POST", CHAT, json=STREAM) as response,
    ):
        lines = response.aiter_lines()
        first = [await anext(lines) for _ in range(3)]  # who speaks, an empty line, text
        assert ANSWER[:8] in first[2]
        runtime.pause.set()
        assert [line async for line in lines][-2] == "data: [DONE]"


async def test_a_client_that_closes_its_socket_ends_its_generation() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    serving = a_serving(runtime, port=0)
    async with listening(serving) as port:
        _, writer = await ask(port, STREAM)
        await runtime.begun.get()
        writer.close()
        await until_free(serving)
        assert runtime.num_running == 0


class Flood(FakeRuntime):
    """Writes more than any buffer on the way holds."""

    async def _generate(
        self, request: GenerationRequest, on_token: OnToken, recorder: TraceRecorder
    ) -> GenerationResult:
        records = [a_record(i, "x", MEBIBYTE) for i in range(32)]
        for record in records:
            on_token(record)
            await asyncio.sleep(0.001)
        stats = a_result_stats(records)
        return GenerationResult("", FinishReason.STOP, tuple(records), stats)


async def test_a_client_that_reads_nothing_loses_its_place_and_the_others_do_not_notice() -> None:
    serving = a_serving(Flood(), port=0, client_timeout_s=2, stop_grace_s=0)
    async with listening(serving) as port:
        _, stuck = await ask(port, STREAM)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            events = events_of((await client.post(CHAT, json=STREAM)).text)
        assert len(text_of(events)) == 32 * len(MEBIBYTE)
        await until_free(serving)
        stuck.transport.abort()
    assert 'outcome="client_gone"' in serving.metrics.page().decode()


async def test_what_is_no_http_is_refused_and_the_server_lives() -> None:
    async with listening(a_serving(FakeRuntime(), port=0)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            assert (await client.get("/health")).status_code == 200


@pytest.mark.parametrize("edge", [{"proposers": ("retrieval",)}, {"policy": "cloud"}])
async def test_nobody_is_promised_a_drafter_that_writes_alone_where_there_is_none(
    tmp_path: Path, edge: dict[str, Any]
) -> None:
    settings = Settings(
        edge=EdgeSettings(**edge), daemon=DaemonSettings(port=0, offline="draft-only")
    )
    with pytest.raises(ConfigError, match="add lm to"):
        await serve(settings, ModelStore(tmp_path))
