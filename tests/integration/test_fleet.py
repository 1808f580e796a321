"""A real daemon, a real broker, and the operator's commands."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from brokers import Broker, running_broker
from daemons import LISTENING, RunningDaemon

pytestmark = pytest.mark.slow

OUTRIDER = (sys.executable, "-m", "outrider")
QUESTION = "What is the capital of France?"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with running_broker(tmp_path_factory.mktemp("broker")) as running:
        yield running


@contextmanager
def mortal_daemon(broker: Broker, *options: str | Path) -> Iterator[RunningDaemon]:
    """A daemon of the fleet that may be killed."""
    serve = [*OUTRIDER, "edge", "serve", "--port", "0", "--fleet-telemetry-interval-s", "1"]
    process = subprocess.Popen(
        [*serve, *broker.options("kiosk-1"), *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        listening = LISTENING.match(process.stdout.readline())
        assert listening is not None, "the daemon did not start"
        yield RunningDaemon(process, listening.group(1))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class Operator:
    """Somebody at a terminal."""

    def __init__(self, broker: Broker) -> None:
        self.options = broker.options("operator")

    def does(self, command: str, *arguments: str | Path, status: int = 0) -> str:
        """The output of a command, which must end with this status; errors are one sentence."""
        done = subprocess.run(
            [*OUTRIDER, "fleet", command, *arguments, *self.options],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if status == 0 else done.stdout + done.stderr

    def begins(self, command: str, *arguments: str) -> "subprocess.Popen[str]":
        """A command that runs while other things happen."""
        return subprocess.Popen(
            [*OUTRIDER, "fleet", command, *arguments, *self.options],
            stdout=subprocess.PIPE,
            text=True,
        )

    def devices(self) -> dict[str, Any]:
        found = json.loads(self.does("status", "--json"))
        return {device["device"]: device for device in found}

    def until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Look at kiosk-1 until something is so; the test's own time limit is the only one."""
        while not is_so(device := self.devices().get("kiosk-1", {"is_alive": False})):
            time.sleep(0.2)
        return device


def ask(daemon: RunningDaemon, **parameters: Any) -> httpx2.Response:
    (card,) = httpx2.get(f"{daemon.url}/v1/models").json()["data"]
    body = {"model": card["id"], "messages": [{"role": "user", "content": QUESTION}], **parameters}
    return httpx2.post(f"{daemon.url}/v1/chat/completions", json=body, timeout=120)


def test_a_device_is_seen_steered_and_given_another_drafter(
    broker: Broker, verifier_address: str, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    operator = Operator(broker)
    key = tmp_path / "operator.pem"
    made = subprocess.run(
        [*OUTRIDER, "fleet", "key", key], capture_output=True, text=True, check=True
    )
    public_key = made.stdout.strip()
    options = ("--verifier", verifier_address, "--bundle", int4_bundle_dir)
    options += ("--cache-dir", tmp_path, "--fleet-public-key", public_key)
    with mortal_daemon(broker, *options) as daemon:
        model = daemon.wait_until_ready()
        seen = operator.until(lambda device: device.get("state", {}).get("model") == model)
        assert seen["state"]["verifier"] == verifier_address
        _is_asked(operator, daemon)
        _is_set(operator, daemon)
        _is_drained(operator, daemon)
        bundle = _gets_a_drafter(operator, daemon, int4_bundle_dir, key, tmp_path)
        os.kill(daemon.process.pid, signal.SIGKILL)
        gone = operator.until(lambda device: not device["is_alive"])
        assert gone["state"]["reason"] == "The broker has lost the device."
    with mortal_daemon(broker, *options) as daemon:
        daemon.wait_until_ready()
        back = operator.until(lambda device: device["is_alive"])
        assert back["state"]["bundle"] == bundle
        assert ask(daemon).json()["usage"]["completion_tokens"] == 7


def _is_asked(operator: Operator, daemon: RunningDaemon) -> None:
    said = json.loads(operator.does("run", "kiosk-1", QUESTION, "--max-tokens", "9", "--json"))
    answer = ask(daemon, max_tokens=9).json()
    assert said["text"] == answer["choices"][0]["message"]["content"]
    assert said["numPromptTokens"] == answer["usage"]["prompt_tokens"]
    table = operator.does("status")
    assert "kiosk-1" in table
    assert "ready" in table


def _is_set(operator: Operator, daemon: RunningDaemon) -> None:
    operator.does("set", "sampling.max_tokens=7", "--device", "kiosk-1")
    assert ask(daemon).json()["usage"]["completion_tokens"] == 7
    refused = operator.does("set", "edge.verifier=127.0.0.1:1", "--device", "kiosk-1", status=1)
    assert "No verifier answers at 127.0.0.1:1" in refused
    assert ask(daemon).json()["usage"]["completion_tokens"] == 7
    # What was refused is not in the next wish.
    operator.does("set", "sampling.top_k=3", "--device", "kiosk-1")


def test_a_job_whose_device_is_killed_in_mid_answer_is_answered_after_all(
    broker: Broker, verifier_address: str, int4_bundle_dir: Path, tmp_path: Path
) -> None:
    """The operator asks again, in the same words and with the same correlation data."""
    operator = Operator(broker)
    options = ("--verifier", verifier_address, "--bundle", int4_bundle_dir)
    options += ("--cache-dir", tmp_path)
    job = ("run", "kiosk-1", QUESTION, "--max-tokens", "150", "--temperature", "1", "--json")
    with mortal_daemon(broker, *options) as daemon:
        daemon.wait_until_ready()
        asking = operator.begins(*job)
        while not _num_tokens_kept(tmp_path):
            time.sleep(0.01)
        os.kill(daemon.process.pid, signal.SIGKILL)
    num_kept = _num_tokens_kept(tmp_path)
    with mortal_daemon(broker, *options) as daemon:
        daemon.wait_until_ready()
        said, _ = asking.communicate(timeout=110)
        assert asking.returncode == 0
        answer = json.loads(said)
        unbroken = ask(daemon, max_tokens=150, temperature=1, seed=int(answer["seed"])).json()
    assert answer["text"] == unbroken["choices"][0]["message"]["content"]
    assert answer["numTokens"] == unbroken["usage"]["completion_tokens"] > num_kept > 0


def _num_tokens_kept(state: Path) -> int:
    files = (state / "journal").glob("*.answer")
    return sum(file.read_bytes().count(b'{"kind":"token"') for file in files)


def _is_drained(operator: Operator, daemon: RunningDaemon) -> None:
    operator.does("tell", "drain", "kiosk-1")
    assert httpx2.get(f"{daemon.url}/ready").status_code == 503
    operator.does("tell", "undrain", "kiosk-1")
    assert "roundTripS" in operator.does("tell", "probe", "kiosk-1")


def _gets_a_drafter(
    operator: Operator, daemon: RunningDaemon, bundle: Path, key: Path, directory: Path
) -> str:
    """Offer the same drafter under another name, and ask until it is judged; its name."""
    archive = directory / "drafter.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(bundle, arcname=".")
    options = ("--name", "again", "--key", str(key), "--trial-tokens", "14", "--margin", "1")
    rolling = subprocess.Popen(
        [
            *(*OUTRIDER, "fleet", "rollout", archive, "--device", "kiosk-1"),
            *options,
            *operator.options,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    while rolling.poll() is None:
        assert ask(daemon).status_code == 200
    said, _ = rolling.communicate()
    assert rolling.returncode == 0
    assert "1 of 1 devices are as wished." in said
    name: str = operator.devices()["kiosk-1"]["state"]["bundle"]
    assert name.startswith("again-")
    return name


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("set", "sampling.max_tokens=0", "--all"), 2, "sampling.max_tokens is '0'"),
        (("set", "nonsense", "--all"), 2, "write NAME=VALUE"),
        (("set", "sampling.seed=1"), 2, "say which with --device, or --all"),
        (("set", "sampling.seed=1", "--device", "kiosk-9"), 2, "There is no device 'kiosk-9'"),
        (("set", "fleet.broker=mqtt://evil", "--all"), 2, "cannot be set by the fleet"),
        (("run", "kiosk-9", "Hi", "--timeout", "1"), 1, "did not answer in 1 s"),
        (("run", "kiosk-9", " "), 2, "The prompt is empty"),
        (("rollout", "/no/such.tar", "--name", "a", "--key", "/no/key", "--all"), 1, "such.tar"),
    ],
)
def test_a_mistake_of_the_operator_is_one_sentence(
    broker: Broker, arguments: tuple[str, ...], status: int, says: str
) -> None:
    assert says in Operator(broker).does(*arguments, status=status)
