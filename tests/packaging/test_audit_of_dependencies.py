"""What the package index knows against the pinned packages."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools/audit_dependencies.py"
KNOWN = {
    "/pypi/good/1.0/json": [],
    "/pypi/bad/2.0/json": [
        {"id": "PYSEC-1", "fixed_in": ["2.1"], "withdrawn": None},
        {"id": "PYSEC-2", "fixed_in": [], "withdrawn": "2026-01-01"},
    ],
}


class Index(BaseHTTPRequestHandler):
    """Has the JSON interface, for two packages."""

    def do_GET(self) -> None:
        known = KNOWN.get(self.path)
        self.send_response(404 if known is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"vulnerabilities": known}).encode())

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def audited(index: str, pins: str, directory: Path, *options: str) -> tuple[int, str]:
    file = directory / "pins.txt"
    file.write_text(pins)
    command = [sys.executable, TOOL, "--index", index, *options, file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--strict",), 1)])
def test_a_known_vulnerability_is_named(
    index: str, tmp_path: Path, options: tuple[str, ...], status: int
) -> None:
    found = audited(index, "good==1.0\nbad==2.0\n", tmp_path, *options)
    assert found == (status, "bad 2.0 has PYSEC-1; fixed in 2.1.\n")


def test_nothing_is_said_of_packages_without_any(index: str, tmp_path: Path) -> None:
    assert audited(index, "good==1.0\n", tmp_path, "--strict") == (0, "")


def test_an_index_that_cannot_be_asked_is_no_fault_but_is_told(index: str, tmp_path: Path) -> None:
    status, said = audited(index, "other==1.0\n", tmp_path, "--strict")
    assert status == 0
    assert said.startswith("Known vulnerabilities were not looked up: the index did not say it")
