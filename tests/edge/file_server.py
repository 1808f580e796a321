"""A server of one file over https on this machine; it does what it is told, request by request."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificates import Authority


@dataclass
class FileServer:
    """What it has, and what it was asked.

    Attributes:
        url: of its file.
        ca: the certificate by which it is known.
        content: of the file.
        script: what it does with each request, in order; the last one again and again.
        ranges: the header `Range` of each request.
        may_end: a response that is silent waits for this.
    """

    url: str
    ca: Path
    content: bytes
    script: "list[Deed]"
    ranges: list[str | None] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)


Deed = Callable[["_Handler", FileServer], None]
"""Answers one request."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, place: list[FileServer], *arguments: object) -> None:
        self.place = place
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        server = self.place[0]
        deed = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        server.ranges.append(self.headers.get("Range"))
        self.close_connection = True
        server.asked.set()
        with contextlib.suppress(OSError):  # the client may have had enough
            deed(self, server)

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    @property
    def start(self) -> int:
        """Where the part that is asked for begins."""
        said = self.headers.get("Range", "bytes=0-")
        return int(said.removeprefix("bytes=").removesuffix("-"))

    def log_message(self, *_arguments: object) -> None:
        pass


def whole(handler: _Handler, server: FileServer) -> None:
    """The file from its beginning, whatever part was asked for."""
    handler.begin(200, len(server.content))
    handler.wfile.write(server.content)


def part(handler: _Handler, server: FileServer, num_bytes: int | None = None) -> None:
    """The part that was asked for, or only so much of it."""
    start, total = handler.start, len(server.content)
    if start >= total:
        handler.begin(416, 0)
        return
    status = 206 if handler.headers.get("Range") else 200
    handler.begin(status, total - start, Content_Range=f"bytes {start}-{total - 1}/{total}")
    end = total if num_bytes is None else start + num_bytes
    handler.wfile.write(server.content[start:end])


def breaking_off(num_bytes: int) -> Deed:
    """Ends the connection after so much."""
    return partial(part, num_bytes=num_bytes)


def silent_after(num_bytes: int) -> Deed:
    """Sends so much, and then nothing any more."""

    def deed(handler: _Handler, server: FileServer) -> None:
        part(handler, server, num_bytes)
        handler.wfile.flush()
        server.may_end.wait()

    return deed


def trickling(handler: _Handler, server: FileServer) -> None:
    """A byte now and then, for ever."""
    handler.begin(200, len(server.content))
    while not server.may_end.wait(0.02):
        handler.wfile.write(b"x")


def chunked(handler: _Handler, server: FileServer) -> None:
    """The file without a word on its length."""
    handler.begin(200, None, Transfer_Encoding="chunked")
    for begin in range(0, len(server.content), 1000):
        piece = server.content[begin : begin + 1000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def endless(handler: _Handler, server: FileServer) -> None:
    """More and more, without a word on its length."""
    handler.begin(200, None, Transfer_Encoding="chunked")
    while True:
        handler.wfile.write(b"400\r\n" + bytes(1024) + b"\r\n")


def announcing(num_bytes: int) -> Deed:
    """Says that the file is so long; sends nothing of it."""

    def deed(handler: _Handler, _server: FileServer) -> None:
        handler.begin(200, num_bytes)

    return deed


def shorter_than_it_is(handler: _Handler, server: FileServer) -> None:
    """Says that the file ends before it does."""
    handler.begin(200, len(server.content) - 100)
    handler.wfile.write(server.content)


def another_part(handler: _Handler, server: FileServer) -> None:
    """Not the part that was asked for."""
    handler.begin(206, 10, Content_Range=f"bytes 0-9/{len(server.content)}")
    handler.wfile.write(server.content[:10])


def leading_to(address: str, status: int = 302) -> Deed:
    """Sends the client elsewhere; an address without a host is on this server."""

    def deed(handler: _Handler, server: FileServer) -> None:
        base = server.url.rpartition("/")[0] if address.startswith("/") else ""
        handler.begin(status, 0, Location=base + address)

    return deed


def refusing(status: int) -> Deed:
    """Has no such file, or is not well."""

    def deed(handler: _Handler, _server: FileServer) -> None:
        handler.begin(status, 0)

    return deed


@contextlib.contextmanager
def file_server(directory: Path, content: bytes, *script: Deed) -> Iterator[FileServer]:
    """A server that runs; it is known by an authority of its own."""
    authority = Authority(directory, "files-ca")
    pair = authority.issue("files", dns=["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    place: list[FileServer] = []
    listener = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, place))
    listener.daemon_threads = True
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    url = f"https://localhost:{listener.server_address[1]}/drafter.tar"
    place.append(FileServer(url, authority.ca, content, list(script) or [part]))
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield place[0]
    finally:
        place[0].may_end.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
