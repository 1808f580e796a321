"""Several verifiers with synthetic targets, Envoy in front of them, and sessions as their load."""

import asyncio
import contextlib
import random
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from ports import free_port
from prometheus_client.parser import text_string_to_metric_families

from outrider.demo import READY
from outrider_common.errors import UnavailableError
from outrider_common.messages import Commit, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_edge.link import VerifierLink

SPEC = SyntheticSpec(vocab=200, acceptance=0.8, c0_s=0.005, c1_s=0, positions=2048)
ENVOY_FILE = Path(__file__).resolve().parents[2] / "deploy" / "envoy" / "envoy.yaml"
NUM_TRIES = 20


@dataclass
class Replica:
    """A verifier in a process of its own."""

    process: "subprocess.Popen[str]"
    address: str
    metrics_port: int

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def figures(self) -> dict[str, float]:
        """Its metrics: see `figures_at`."""
        return figures_at(self.metrics_port)


def figures_at(metrics_port: int) -> dict[str, float]:
    """A verifier's metrics without labels; figures of several labels added up."""
    url = f"http://127.0.0.1:{metrics_port}/metrics"
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix("outrider_verifier_")
            found[name] = found.get(name, 0) + sample.value
    return found


@contextlib.contextmanager
def running_replicas(count: int) -> Iterator[list[Replica]]:
    """Verifiers; those that a test has ended itself may have ended in any way."""
    replicas: list[Replica] = []
    try:
        started = [_start() for _ in range(count)]
        replicas += [_ready(process, port) for process, port in started]
        yield replicas
    finally:
        for replica in replicas:
            replica.process.kill()
            replica.process.wait(timeout=30)
            assert replica.process.stdout is not None
            replica.process.stdout.close()


def _start() -> tuple["subprocess.Popen[str]", int]:
    port = free_port()
    options = ["--port", "0", "--metrics-port", str(port), "--max-sessions", "200"]
    command = [sys.executable, "-m", "outrider", "verifier", "serve", "--model", str(SPEC)]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True), port


def _ready(process: "subprocess.Popen[str]", metrics_port: int) -> Replica:
    assert process.stdout is not None
    ready = READY.match(process.stdout.readline())
    assert ready is not None, "a verifier did not start"
    return Replica(process, ready.group(1), metrics_port)


@contextlib.contextmanager
def running_envoy(ports: Sequence[int], directory: Path) -> Iterator[str]:
    """Envoy with the configuration that is shipped, before these ports; yields its address."""
    port = free_port()
    file = directory / "envoy.yaml"
    file.write_text(yaml.safe_dump(_on_these_ports(port, ports)))
    log = (directory / "envoy.log").open("w+")
    command: list[str | Path] = [
        Path(sys.executable).with_name("envoy"),
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
    ]
    process = subprocess.Popen([*command, "-c", file], stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)
        log.close()


def _on_these_ports(port: int, upstream: Sequence[int]) -> dict[str, object]:
    document: dict[str, object] = yaml.safe_load(ENVOY_FILE.read_text())
    resources: dict[str, list[dict[str, object]]] = document["static_resources"]  # type: ignore[assignment]
    (listener,), (cluster,) = resources["listeners"], resources["clusters"]
    listener["address"] = _address(port)
    cluster["type"] = "STATIC"
    endpoints = [{"endpoint": {"address": _address(one)}} for one in upstream]
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"] = endpoints  # type: ignore[index]
    return document


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        with (
            contextlib.suppress(ConnectionRefusedError),
            socket.create_connection(("127.0.0.1", port)),
        ):
            return
    raise AssertionError("Envoy ended")


def a_prompt(system: int, user: int, system_tokens: int = 80) -> list[int]:
    """A system prompt, by number, and what a user adds."""
    tokens = random.Random(system)
    system_prompt = [tokens.randint(1, 190) for _ in range(system_tokens)]
    return [*system_prompt, *(1 + (user * 13 + i) % 190 for i in range(10))]


def expected_text(prompt: Sequence[int], num_tokens: int) -> list[int]:
    text = list(prompt)
    while len(text) < len(prompt) + num_tokens:
        text.append(next_token(SPEC, text))
    return text


async def generate(
    link: VerifierLink, prompt: Sequence[int], num_tokens: int
) -> tuple[list[int], int]:
    """A whole text, and in how many sessions: one that breaks goes on in another."""
    text = list(prompt)
    for number in range(1, NUM_TRIES + 1):
        with contextlib.suppress(UnavailableError):
            await _go_on(link, text, len(prompt), num_tokens)
        if len(text) == len(prompt) + num_tokens:
            return text, number
        await asyncio.sleep(0.1)
    raise AssertionError("no replica went on")


async def _go_on(
    link: VerifierLink, text: list[int], num_prompt_tokens: int, num_tokens: int
) -> None:
    message = OpenSession(
        prefix=tuple(text),
        num_prompt_tokens=num_prompt_tokens,
        max_tokens=num_tokens,
        sampling=SamplingParams(),
        tokenizer_fingerprint=SPEC.tokenizer_fingerprint,
    )
    session = await link.open(message, 65536)
    try:
        while (event := await session.receive()) is not None:
            if isinstance(event, Commit):
                text += event.tokens
                if event.finish_reason is not None:
                    return
    finally:
        session.close()
