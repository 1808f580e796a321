"""Benchmark of the daemon as users run it: first token, fairness of 16 streams, cost of being idle.

Verifier and daemon are processes of their own with the real model, each on a core of its own; the
client is on the daemon's. The first token is held against a bare session with the verifier, in
turn. Prints a table.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx2

TESTS: Final = Path(__file__).resolve().parents[1]
sys.path.append(str(TESTS))

from daemons import RunningDaemon, running_daemon  # noqa: E402
from processes import running_verifier  # noqa: E402

from outrider_bench.processes import on_core  # noqa: E402
from outrider_common.messages import Commit, ModelInfo, OpenSession  # noqa: E402
from outrider_common.sampling import SamplingParams  # noqa: E402
from outrider_edge.grpc_link import GrpcLink  # noqa: E402
from outrider_edge.runtime import load_tokenizer  # noqa: E402
from outrider_edge.tokenizer import EdgeTokenizer  # noqa: E402
from outrider_models.bundle import Bundle  # noqa: E402
from outrider_models.store import ModelStore, default_root  # noqa: E402

OUTRIDER: Final = (sys.executable, "-m", "outrider")
CHAT: Final = "/v1/chat/completions"
POLICIES: Final = ("cloud", "auto")
THINGS: Final = ("a bridge", "a harbour", "a violin", "an orchard", "a glacier", "a lighthouse")
NUM_FIRST_TOKENS: Final = 16
NUM_STREAMS: Final = 16
STREAMING_S: Final = 20.0
IDLE_S: Final = 30.0
AFTERWARDS_S: Final = 5.0
_MS: Final = 1000


def question(number: int) -> str:
    """Questions of one length that share as little as may be."""
    thing = THINGS[number // 10 % len(THINGS)]
    return f"{number}: write a very long story about {thing} and the people who depend on it."


async def bare_first_token_s(link: GrpcLink, info: ModelInfo, prompt: Sequence[int]) -> float:
    """From opening a session until its first token: a round trip and the target's own work."""
    message = OpenSession(
        prefix=tuple(prompt),
        num_prompt_tokens=len(prompt),
        max_tokens=1,
        sampling=SamplingParams(),
        tokenizer_fingerprint=info.tokenizer_fingerprint,
    )
    began = time.perf_counter()
    session = await link.open(message, info.limits.max_message_bytes)
    while not isinstance(event := await session.receive(), Commit):
        assert event is not None, "the verifier has ended the session"
    seconds = time.perf_counter() - began
    session.close()
    return seconds


async def first_token_s(client: httpx2.AsyncClient, body: dict[str, Any]) -> float:
    """From sending a request until the first piece of text has been parsed."""
    began = time.perf_counter()
    async with client.stream("POST", CHAT, json=body | {"max_tokens": 1}) as response:
        async for document in _documents(response):
            if document["choices"] and document["choices"][0]["delta"].get("content"):
                return time.perf_counter() - began
    raise AssertionError("there was no token")


async def _documents(response: httpx2.Response) -> Any:
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


async def print_first_tokens(
    client: httpx2.AsyncClient, address: str, model: str, tokenizer: EdgeTokenizer
) -> None:
    """What daemon, drafter and HTTP add to the first token, in turn with bare sessions."""
    async with GrpcLink(address) as link:
        info = await link.model_info()
        bare: list[float] = []
        added: dict[str, list[float]] = {policy: [] for policy in POLICIES}
        for number in range(NUM_FIRST_TOKENS + 1):
            text = question(1000 + 10 * number)
            prompt = tokenizer.encode_chat([{"role": "user", "content": text}])
            alone_s = await bare_first_token_s(link, info, prompt)
            for place, policy in enumerate(POLICIES, start=1):
                body = _body(model, 1000 + 10 * number + place) | {"outrider": {"policy": policy}}
                seconds = await first_token_s(client, body)
                if number:  # the first round warms up
                    added[policy].append(seconds - alone_s)
            if number:
                bare.append(alone_s)
    _row("first token of a bare session, ms", _spread(bare, _MS))
    for policy, later in added.items():
        _row(f"the daemon's first token later, ms, policy `{policy}`", _spread(later, _MS))


def _body(model: str, number: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": question(number)}]
    return {"model": model, "messages": messages, "stream": True, "temperature": 1, "seed": number}


async def print_fairness(client: httpx2.AsyncClient, model: str) -> None:
    """How evenly streams advance that begin together and are cut off together."""
    end = time.perf_counter() + STREAMING_S
    counts = await asyncio.gather(
        *(_num_tokens_until(client, model, number, end) for number in range(NUM_STREAMS))
    )
    _row(
        f"tokens of {NUM_STREAMS} streams in {STREAMING_S:g} s, least and most", _least_most(counts)
    )
    _row("most / least", f"{max(counts) / max(1, min(counts)):.2f}")


async def _num_tokens_until(client: httpx2.AsyncClient, model: str, number: int, end: float) -> int:
    """Tokens that one client gets; when an answer is complete it asks again."""
    count = 0
    while time.perf_counter() < end:
        body = _body(model, 2000 + number) | {"logprobs": True, "max_tokens": 1000}
        async with client.stream("POST", CHAT, json=body) as response:
            assert response.status_code == 200
            async for document in _documents(response):
                if time.perf_counter() >= end:
                    break
                for choice in document["choices"]:
                    count += len((choice["logprobs"] or {}).get("content") or ())
        number += NUM_STREAMS
    return count


def print_idle(daemon: RunningDaemon) -> None:
    """What the daemon takes while nobody asks."""
    before = _cpu_s(daemon.process.pid)
    time.sleep(IDLE_S)
    share = (_cpu_s(daemon.process.pid) - before) / IDLE_S
    _row(f"idle for {IDLE_S:g} s: CPU, % of a core", f"{100 * share:.2f}")
    _row("resident, MB", f"{_resident_mb(daemon.process.pid):.0f}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _spread(values: Sequence[float], factor: float) -> str:
    return f"{factor * statistics.median(values):.1f} ({_least_most([factor * v for v in values])})"


def _least_most(values: Sequence[float]) -> str:
    return f"{min(values):.4g} to {max(values):.4g}"


def _row(what: str, figure: str) -> None:
    print(f"| {what} | {figure} |", flush=True)  # noqa: T201


async def measure(daemon: RunningDaemon, address: str, tokenizer: EdgeTokenizer) -> None:
    """Print one row for each figure."""
    model = daemon.wait_until_ready()
    limits = httpx2.Limits(max_connections=NUM_STREAMS)
    async with httpx2.AsyncClient(base_url=daemon.url, timeout=120, limits=limits) as client:
        await print_first_tokens(client, address, model, tokenizer)
        await asyncio.to_thread(print_idle, daemon)
        await print_fairness(client, model)
        _row("resident then, MB", f"{_resident_mb(daemon.process.pid):.0f}")
    await asyncio.sleep(AFTERWARDS_S)
    _row(f"resident {AFTERWARDS_S:g} s later, MB", f"{_resident_mb(daemon.process.pid):.0f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Start verifier and daemon, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--bundle", default="smollm2-135m-int8")
    options = parser.parse_args(arguments)
    store = ModelStore(default_root())
    bundle = store.resolve_bundle(options.bundle)
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    with ExitStack() as stack:
        state = stack.enter_context(tempfile.TemporaryDirectory())
        with on_core(first):
            address = stack.enter_context(
                running_verifier(OUTRIDER, store.resolve_model(options.model))
            )
        os.sched_setaffinity(0, {last})
        daemon = stack.enter_context(running_daemon(address, bundle, "--cache-dir", state))
        print("| | |\n|---|---|")  # noqa: T201
        asyncio.run(measure(daemon, address, load_tokenizer(Bundle.load(bundle))))


if __name__ == "__main__":
    main()
