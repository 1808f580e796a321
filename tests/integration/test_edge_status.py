"""`outrider edge status` of a real daemon, and of none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from daemons import running_daemon
from terminals import CTRL_C, at_a_terminal

pytestmark = pytest.mark.slow

STATUS = (sys.executable, "-m", "outrider", "edge", "status")
NOWHERE = "127.0.0.1:1"


def status(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*STATUS, *options], capture_output=True, text=True, check=False)


def test_without_a_daemon_it_says_how_to_start_one_and_ends_with_three() -> None:
    done = status("--port", "1")
    assert done.returncode == 3
    assert done.stdout == ""
    assert "No edge daemon answers at http://127.0.0.1:1" in done.stderr
    assert "outrider edge serve" in done.stderr
    assert done.stderr.count("\n") == 1


def test_it_says_how_a_daemon_is_and_that_it_waits(int8_bundle_dir: Path, tmp_path: Path) -> None:
    socket = tmp_path / "edge.sock"
    options = ("--proposers", "retrieval", "--socket", str(socket))
    with running_daemon(NOWHERE, int8_bundle_dir, *options) as daemon:
        port = daemon.url.rpartition(":")[2]
        by_port, by_socket = status("--json", "--port", port), status("--socket", str(socket))
        assert by_port.returncode == by_socket.returncode == 0
        document = json.loads(by_port.stdout)
        assert document["pid"] == daemon.process.pid
        assert document["state"] == "waiting"
        assert document["verifier"] == NOWHERE
        assert "No verifier answers at 127.0.0.1:1" in " ".join(by_socket.stdout.split())


def test_it_watches_until_interrupted(int8_bundle_dir: Path) -> None:
    with running_daemon(NOWHERE, int8_bundle_dir, "--proposers", "retrieval") as daemon:
        port = daemon.url.rpartition(":")[2]
        watch = ("edge", "status", "--watch", "--interval", "0.1", "--port", port)
        with at_a_terminal(*watch) as terminal:
            for _ in range(3):
                terminal.until(f"process {daemon.process.pid}")
            terminal.type(CTRL_C)
            assert terminal.end() == 130
            assert "Traceback" not in terminal.seen
