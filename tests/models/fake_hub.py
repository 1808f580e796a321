"""A model hub on the loopback: the few endpoints that the hub's client asks for a snapshot."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Repositories by `org/name`, each a mapping of file name to contents.

    `breaks_after` makes every file break off after so many bytes.
    """

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        self.repositories = repositories
        self.revisions = {"main", COMMIT}
        self.downloads: list[str] = []
        self.breaks_after: int | None = None
        self.endpoint = ""


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    server = _Server(hub)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: FakeHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def _hub(self) -> FakeHub:
        assert isinstance(self.server, _Server)
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._answer_api("/".join(parts[2:4]), parts[4:])
        else:
            self._answer_file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), with_body)

    def _answer_api(self, repository: str, rest: list[str]) -> None:
        files = self._hub.repositories.get(repository)
        revision = rest[1] if len(rest) > 1 else "main"
        if files is None:
            self._refuse("RepoNotFound")
        elif revision not in self._hub.revisions:
            self._refuse("RevisionNotFound")
        elif rest[:1] == ["tree"]:
            self._send_json([_tree_entry(name, data) for name, data in files.items()])
        else:
            siblings = [{"rfilename": name} for name in files]
            document = {"id": repository, "modelId": repository, "sha": COMMIT}
            self._send_json({**document, "siblings": siblings, "tags": [], "private": False})

    def _answer_file(self, repository: str, revision: str, name: str, with_body: bool) -> None:
        data = self._hub.repositories[repository].get(name)
        if data is None:
            self._refuse("EntryNotFound")
            return
        start = self._range_start()
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if with_body:
            self._hub.downloads.append(name)
            self.wfile.write(data[start : self._hub.breaks_after])
            self.close_connection = self._hub.breaks_after is not None

    def _range_start(self) -> int:
        wanted = self.headers.get("Range", "bytes=0-")
        return int(wanted.removeprefix("bytes=").split("-")[0])

    def _send_json(self, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _tree_entry(name: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
