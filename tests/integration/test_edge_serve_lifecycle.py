"""How the edge daemon begins and ends, and what it does while there is no verifier."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from daemons import RunningDaemon, running_daemon
from ports import free_port

pytestmark = pytest.mark.slow

STORY: Any = [{"role": "user", "content": "Write a long story about a lighthouse keeper."}]
OUTRIDER = (sys.executable, "-m", "outrider")
SERVE = (*OUTRIDER, "edge", "serve", "--port", "0")
QUICK = ("--proposers", "retrieval")
"""Nothing to load."""


@contextlib.contextmanager
def mortal_verifier(port: int, model: Path) -> Iterator["subprocess.Popen[str]"]:
    """A verifier that may be killed."""
    process = subprocess.Popen(
        [*OUTRIDER, "verifier", "serve", "--port", str(port), "--model", str(model)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Verifier ready")
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def begin_a_story(daemon: RunningDaemon, max_tokens: int) -> Any:
    """A stream that has begun."""
    client = daemon.client()
    (card,) = client.models.list().data
    stream = client.chat.completions.create(
        model=card.id, messages=STORY, max_tokens=max_tokens, stream=True
    )
    next(stream)
    return stream


def test_a_verifier_may_come_go_and_come_again(smollm2_dir: Path, int8_bundle_dir: Path) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    soon = ("--resume-timeout-s", "1", "--connect-timeout-s", "1")
    with running_daemon(address, int8_bundle_dir, *QUICK, *soon) as daemon:
        assert httpx2.get(f"{daemon.url}/health").status_code == 200
        refused = httpx2.get(f"{daemon.url}/ready")
        assert refused.status_code == 503
        with mortal_verifier(port, smollm2_dir) as verifier:
            daemon.wait_until_ready()
            stream = begin_a_story(daemon, 4000)
            os.kill(verifier.pid, signal.SIGKILL)
            with pytest.raises(openai.APIError, match="broke off after"):
                list(stream)
        with daemon.client() as client, pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model=str(smollm2_dir), messages=STORY)
        assert caught.value.status_code == 503
        with mortal_verifier(port, smollm2_dir):
            _wait_until_ready_again(daemon)
            assert list(begin_a_story(daemon, 8))


def _wait_until_ready_again(daemon: RunningDaemon) -> None:
    """The test's own time limit is the only one."""
    while httpx2.get(f"{daemon.url}/ready", timeout=30).status_code != 200:
        time.sleep(0.1)


def test_sigterm_lets_answers_end_and_takes_no_more(
    verifier_address: str, int8_bundle_dir: Path
) -> None:
    options = (*QUICK, "--stop-grace-s", "120")
    with running_daemon(verifier_address, int8_bundle_dir, *options) as daemon:
        daemon.wait_until_ready()
        stream = begin_a_story(daemon, 30)
        daemon.process.terminate()
        reasons = [choice.finish_reason for chunk in stream for choice in chunk.choices]
        assert reasons[-1] == "length"
        assert daemon.process.wait(timeout=60) == 0
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{daemon.url}/health")


def test_answers_that_outlast_the_grace_are_told(
    verifier_address: str, int8_bundle_dir: Path
) -> None:
    options = (*QUICK, "--stop-grace-s", "0")
    with running_daemon(verifier_address, int8_bundle_dir, *options) as daemon:
        daemon.wait_until_ready()
        stream = begin_a_story(daemon, 4000)
        daemon.process.terminate()
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            list(stream)
        assert daemon.process.wait(timeout=60) == 0


def test_a_second_signal_ends_it_at_once(verifier_address: str, int8_bundle_dir: Path) -> None:
    options = (*QUICK, "--stop-grace-s", "3000")
    with running_daemon(verifier_address, int8_bundle_dir, *options) as daemon:
        daemon.wait_until_ready()
        stream = begin_a_story(daemon, 4000)
        daemon.process.terminate()
        with contextlib.suppress(httpx2.ConnectError):
            while httpx2.get(f"{daemon.url}/health").status_code:
                time.sleep(0.02)
        daemon.process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="stopped in the middle"):
            list(stream)
        assert daemon.process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("options", "fault", "status"),
    [
        (("--host", "0.0.0.0"), "--allow-remote", 2),
        (("--bundle", "no-such-bundle"), "no-such-bundle", 1),
        (("--port", "70000"), "70000", 2),
        (("--max-concurrent-requests", "0"), "max_concurrent_requests", 2),
        (("--allowed-origins", "evil"), "allowed_origins", 2),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    options: tuple[str, str], fault: str, status: int
) -> None:
    result = subprocess.run(
        [*SERVE, *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == status
    assert fault in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_a_verifier_with_another_tokenizer_ends_the_daemon(int8_bundle_dir: Path) -> None:
    bundle = str(int8_bundle_dir)
    with subprocess.Popen(
        [*OUTRIDER, "verifier", "serve", "--port", "0", "--model", "synthetic:c0=1ms"],
        stdout=subprocess.PIPE,
        text=True,
    ) as verifier:
        assert verifier.stdout is not None
        address = verifier.stdout.readline().rpartition(" ")[2].strip()
        result = subprocess.run(
            [*SERVE, "--verifier", address, "--bundle", bundle],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        verifier.terminate()
    assert result.returncode == 1
    assert "another tokenizer" in result.stderr
