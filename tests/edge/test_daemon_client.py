"""Our client against the daemon's real HTTP server, and against what is no daemon."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from api_client import CHAT, HI, a_serving, text_of
from fake_runtime import ANSWER, FakeRuntime
from http_daemon import a_daemon_client

from outrider_common.errors import (
    CapacityError,
    InvalidInputError,
    InvalidPromptError,
    OutriderError,
    UnavailableError,
    UnknownModelError,
)
from outrider_common.settings.daemon import DaemonSettings
from outrider_edge import generation_endpoint
from outrider_edge.daemon_client import DaemonAddress, DaemonClient, NoDaemonError

STREAM = HI | {"stream": True}


async def test_it_gets_documents_and_streams_over_both_sockets(tmp_path: Path) -> None:
    path = tmp_path / "edge.sock"
    serving = a_serving(FakeRuntime(), port=0, socket=path)
    for socket in (None, path):
        async with a_daemon_client(serving, socket) as client:
            assert await client.get("/health") == {"status": "ok"}
            assert await client.model() == "fake"
            events = [event async for event in client.stream(CHAT, STREAM)]
        assert text_of([*events, "the end"]) == ANSWER


async def test_closing_a_stream_ends_the_answer() -> None:
    runtime = FakeRuntime()
    runtime.pause.clear()
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        async with contextlib.aclosing(client.stream(CHAT, STREAM)) as events:
            await anext(events)
        while runtime.num_running:  # noqa: ASYNC110 - the test's own time limit is the only one
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"model": "other"}, UnknownModelError),
        ({"temperature": -1}, InvalidInputError),
        ({"messages": [{"role": "user", "content": "x" * 5000}]}, InvalidPromptError),
    ],
)
async def test_a_refusal_is_the_error_that_the_daemon_meant(
    change: dict[str, object], kind: type[OutriderError]
) -> None:
    async with a_daemon_client(a_serving(FakeRuntime(), port=0)) as client:
        with pytest.raises(kind):
            await anext(client.stream(CHAT, STREAM | change))


async def test_a_daemon_without_a_verifier_says_so_itself() -> None:
    async with a_daemon_client(a_serving(None, port=0)) as client:
        with pytest.raises(UnavailableError, match="The daemon is starting") as caught:
            await client.model()
    assert not isinstance(caught.value, NoDaemonError)


@pytest.mark.parametrize("error_after", [0, 1])
async def test_a_failure_is_raised_before_the_answer_and_in_the_middle_of_it(
    error_after: int,
) -> None:
    runtime = FakeRuntime(error=CapacityError("It is full."), error_after=error_after)
    async with a_daemon_client(a_serving(runtime, port=0)) as client:
        with pytest.raises(CapacityError, match="It is full"):
            async for _ in client.stream(CHAT, STREAM):
                pass


async def test_where_nothing_listens_the_address_and_the_remedy_are_named(tmp_path: Path) -> None:
    for address in (DaemonAddress("127.0.0.1", 1), DaemonAddress("x", 1, tmp_path / "no.sock")):
        with pytest.raises(NoDaemonError, match=f"at {address} .*outrider edge serve"):
            await DaemonClient(address).get("/health")


@pytest.mark.parametrize(
    "reply",
    [b"SSH-2.0-server\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ok>", b"", b"\x00" * 99],
)
async def test_what_is_no_daemon_is_not_taken_for_one(reply: bytes) -> None:
    with pytest.raises(NoDaemonError, match="something else listens there"):
        await ask_a_stranger(reply, DaemonClient.model, timeout_s=5)


@pytest.mark.parametrize("rest", [b"", b"5\r\ndata:", b"0\r\n\r\n"])
async def test_a_daemon_that_dies_in_the_middle_of_an_answer_is_said_to_be_gone(
    rest: bytes,
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    event = b"a\r\ndata: {}\n\n\r\n"

    async def ask(client: DaemonClient) -> None:
        assert [event async for event in client.stream(CHAT, STREAM)] == [{}]

    with pytest.raises(UnavailableError, match="went away in the middle"):
        await ask_a_stranger(head + event + rest, ask, timeout_s=5)


async def test_a_stranger_that_says_nothing_is_given_up() -> None:
    with pytest.raises(NoDaemonError, match=r"no answer in 0\.2 s"):
        await ask_a_stranger(None, DaemonClient.model, timeout_s=0.2)


async def ask_a_stranger(
    reply: bytes | None, ask: Callable[[DaemonClient], Awaitable[object]], timeout_s: float
) -> None:
    """Ask a server that sends these bytes and hangs up; None: that does nothing."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reply is None:
            await done.wait()
        else:
            await reader.read(1)
            writer.write(reply)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await ask(DaemonClient(DaemonAddress("127.0.0.1", port), timeout_s))
    finally:
        done.set()
        server.close()


@pytest.mark.parametrize(
    ("settings", "address"),
    [
        (DaemonSettings(), "http://127.0.0.1:7412"),
        (DaemonSettings(host="0.0.0.0", port=1), "http://127.0.0.1:1"),
        (DaemonSettings(host="::1", port=1), "http://[::1]:1"),
        (DaemonSettings(socket=Path("/run/edge.sock")), "unix:/run/edge.sock"),
    ],
)
def test_the_address_is_where_a_daemon_with_these_settings_listens(
    settings: DaemonSettings, address: str
) -> None:
    assert str(DaemonAddress.of(settings)) == address


async def test_an_answer_that_waits_for_a_verifier_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(generation_endpoint, "KEEP_ALIVE_S", 0.01)
    serving = a_serving(None, port=0, offline="queue")
    async with a_daemon_client(serving) as client:
        asyncio.get_running_loop().call_later(0.1, setattr, serving, "runtime", FakeRuntime())
        events = [event async for event in client.stream(CHAT, STREAM)]
    assert text_of([*events, "the end"]) == ANSWER
