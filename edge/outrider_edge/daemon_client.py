"""Asks a running edge daemon, over TCP or its Unix socket. One connection for each request.

Turns what goes wrong into our errors. Knows nothing of what the requests are for.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h11

from outrider_common.errors import (
    CapacityError,
    InvalidInputError,
    InvalidPromptError,
    OutriderError,
    UnavailableError,
    UnknownModelError,
)
from outrider_common.settings.daemon import DaemonSettings

Json = dict[str, Any]

_CHUNK_BYTES: Final = 65536
_MOST_EVENT_BYTES: Final = 4 << 20
_EVENT_PREFIX: Final = b"data: "
_SOMETHING_ELSE: Final = "something else listens there"
_DONE: Final = b"[DONE]"


class NoDaemonError(UnavailableError):
    """Nothing listens where the daemon should be, or it is something else."""

    reason = "NO_DAEMON"


@dataclass(frozen=True, slots=True)
class DaemonAddress:
    """Where a daemon listens.

    Attributes:
        host: of its TCP socket.
        port: likewise.
        socket: its Unix socket, which is used if there is one.
    """

    host: str
    port: int
    socket: Path | None = None

    @classmethod
    def of(cls, settings: DaemonSettings) -> "DaemonAddress":
        """Where a daemon with these settings listens; an address for all is asked on loopback."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        return cls(everywhere.get(settings.host, settings.host), settings.port, settings.socket)

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else self._plain

    @property
    def _plain(self) -> str:
        return f"http://{self.host}:{self.port}"


class DaemonClient:
    """A client of one daemon.

    Args:
        address: where it listens.
        timeout_s: how long it may take to be reached, and to answer what it knows by heart.
    """

    def __init__(self, address: DaemonAddress, timeout_s: float = 5.0) -> None:
        self._address = address
        self._timeout_s = timeout_s

    @property
    def address(self) -> DaemonAddress:
        """Where the daemon listens."""
        return self._address

    async def get(self, path: str) -> Json:
        """A document.

        Raises:
            NoDaemonError: no daemon is there.
            OutriderError: what the daemon said instead.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._asked("GET", path) as response:
                return self._document(await response.rest())
        except TimeoutError:
            raise self._no_daemon(f"no answer in {self._timeout_s:g} s") from None

    async def model(self) -> str:
        """The name of the target; raises as `get` does."""
        document = await self.get("/v1/models")
        try:
            return str(document["data"][0]["id"])
        except (LookupError, TypeError):
            raise self._no_daemon(_SOMETHING_ELSE) from None

    async def stream(self, path: str, request: Json) -> AsyncGenerator[Json, None]:
        """The server-sent events that answer a request. Closing the iterator ends the answer.

        Raises:
            NoDaemonError: no daemon is there.
            OutriderError: what the daemon said instead of an answer, or in the middle of it.
        """
        async with self._asked("POST", path, json.dumps(request).encode()) as response:
            with contextlib.suppress(OSError, h11.RemoteProtocolError):  # it went away
                async for data in response.events():
                    if data == _DONE:
                        return
                    document = self._document(data)
                    if "error" in document:
                        raise _error(document)
                    yield document
        raise UnavailableError(
            f"The daemon at {self._address} went away in the middle of the answer; ask again."
        )

    @contextlib.asynccontextmanager
    async def _asked(self, method: str, path: str, body: bytes = b"") -> AsyncIterator["_Response"]:
        """A response whose status is good and whose body is still to come."""
        reader, writer = await self._connect()
        try:
            response = _Response(reader)
            writer.write(response.request(method, path, body))
            await writer.drain()
            if await response.status() >= 400:
                raise _error(self._document(await response.rest()))
            yield response
        except OSError as error:
            raise self._no_daemon(_why(error)) from error
        except h11.RemoteProtocolError as error:
            raise self._no_daemon(_SOMETHING_ELSE) from error
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        try:
            async with asyncio.timeout(self._timeout_s):
                if address.socket is not None:
                    return await asyncio.open_unix_connection(address.socket)
                return await asyncio.open_connection(address.host, address.port)
        except TimeoutError:
            raise self._no_daemon(f"no connection in {self._timeout_s:g} s") from None
        except OSError as error:
            raise self._no_daemon(_why(error)) from error

    def _document(self, body: bytes) -> Json:
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise self._no_daemon(_SOMETHING_ELSE)
        return document

    def _no_daemon(self, why: str) -> NoDaemonError:
        return NoDaemonError(
            f"No edge daemon answers at {self._address} ({why}); start one with 'outrider edge "
            "serve', or say where it is with --port, --host or --socket."
        )


class _Response:
    """One exchange over a connection, with h11 as the protocol."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._http = h11.Connection(h11.CLIENT)

    def request(self, method: str, path: str, body: bytes) -> bytes:
        """The bytes of the request."""
        headers = [
            ("Host", "localhost"),
            ("Content-Length", str(len(body))),
            ("Content-Type", "application/json"),
            ("Connection", "close"),
        ]
        parts = (
            h11.Request(method=method, target=path, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        return b"".join(filter(None, map(self._http.send, parts)))

    async def status(self) -> int:
        """The status, once the headers are there."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event.status_code
            if isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("it hung up")

    async def rest(self) -> bytes:
        """The whole body."""
        return b"".join([part async for part in self._parts()])

    async def events(self) -> AsyncIterator[bytes]:
        """The data of each server-sent event."""
        waiting = b""
        async for part in self._parts():
            *whole, waiting = (waiting + part).split(b"\n\n")
            if len(waiting) > _MOST_EVENT_BYTES:
                raise h11.RemoteProtocolError("it sent an event without an end")
            for event in whole:
                if event.startswith(_EVENT_PREFIX):
                    yield event.removeprefix(_EVENT_PREFIX)

    async def _parts(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage | h11.ConnectionClosed):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_CHUNK_BYTES))
        assert not isinstance(event, type)  # paused: only where pipelining is
        return event


def _why(error: OSError) -> str:
    """The system's own words; asyncio's name the address, which is said anyway."""
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _error(document: Json) -> OutriderError:
    """What the daemon said, as the error that it was."""
    said = document.get("error")
    said = said if isinstance(said, dict) else {}
    message = str(said.get("message", "The daemon failed; its log says why."))
    kinds: dict[object, type[OutriderError]] = {
        "context_length_exceeded": InvalidPromptError,
        "model_not_found": UnknownModelError,
        "rate_limit_exceeded": CapacityError,
        "verifier_unavailable": UnavailableError,
    }
    is_ours = said.get("type") == "invalid_request_error"
    return kinds.get(said.get("code"), InvalidInputError if is_ours else OutriderError)(message)
