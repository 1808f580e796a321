"""Benchmark of the wire: bytes for each drafted node on the way up, for each token on the way down.

Real generations run over an emulated link with a tap that sees every frame. Verifier and link are
processes of their own. Prints tables: see `--help`.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from bench_answers import chosen_tasks
from bench_frames import Count, since, total
from bench_tap import TappedLink, Traffic, tapped_link
from rich.console import Console

from outrider.demo import MODEL, READY
from outrider_bench.profile import LinkProfile
from outrider_common.errors import OutriderError, UnavailableError
from outrider_common.records import GenerationStats
from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.generation import GenerationRequest
from outrider_edge.runtime import EdgeRuntime, edge_runtime
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore, default_root

SETTLED_S: Final = 0.2
"""After the last token: until the frames that end the stream have gone both ways."""

RUNNING_UP: Final = "extend"
RUNNING_DOWN: Final = "commit"
PINGS: Final = "PING"
WINDOWS: Final = "WINDOW_UPDATE"
"""Frames that gRPC adds while messages go to and fro; all others open or end a stream."""

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """What one generation sent one way.

    Attributes:
        running: the messages that carry nodes, or commits.
        windows: frames with which gRPC says that it has read.
        pings: frames with which it measures the link, and the answers.
        once: what opens and ends a stream.
    """

    running: Count
    windows: Count
    pings: Count
    once: Count

    @classmethod
    def of(cls, counts: dict[str, Count], running: str) -> "Way":
        """Of all that was counted during a generation."""
        messages, windows, pings = (counts.get(name, Count()) for name in (running, WINDOWS, PINGS))
        return cls(messages, windows, pings, total(counts) - messages - windows - pings)


@dataclass(frozen=True, slots=True)
class Generated:
    """One generation: its sums, and its bytes."""

    stats: GenerationStats
    up: Way
    down: Way


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: a drafter, a policy, how the target chooses, and a link."""

    bundle: str
    policy: str
    temperature: float
    rtt_ms: float

    @property
    def cells(self) -> Row:
        """For a table."""
        choice = "greedy" if self.temperature == 0 else f"T = {self.temperature:g}"
        return self.bundle, self.policy, choice, f"{self.rtt_ms:g} ms"


CASE_HEAD: Final = ("drafter", "policy", "target", "round trip")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status."""
    options = _options(arguments)
    try:
        with verifier() as address:
            outcomes = list(measured(address, options))
    except OutriderError as error:
        Console(stderr=True).print(f"Error: {error}", markup=False, soft_wrap=True)
        return 1
    text = "\n".join([*running_table(outcomes), "", *once_table(outcomes)])
    Console().print(text, markup=False, highlight=False, soft_wrap=True)
    return 0


# --- the run --------------------------------------------------------------------------------------


@contextlib.contextmanager
def verifier() -> Iterator[str]:
    """A verifier on a free port of loopback; yields its address."""
    command = [sys.executable, "-m", "outrider", "verifier", "serve", "--model", MODEL]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        if ready is None:
            raise UnavailableError("The verifier did not start; what it said stands above.")
        yield ready.group(1)
    finally:
        process.terminate()
        process.wait()


def measured(address: str, options: argparse.Namespace) -> Iterator[tuple[Case, list[Generated]]]:
    """Every case, with a generation for each prompt after one that warms up."""
    for rtt_ms in options.rtt_ms:
        with tapped_link(LinkProfile(rtt_s=rtt_ms / 1e3), address) as link:
            for bundle, policy in product(options.bundles, options.policies):
                cases = [Case(bundle, policy, t, rtt_ms) for t in options.temperatures]
                yield from asyncio.run(_measured_pair(link, cases, options))


async def _measured_pair(
    link: TappedLink, cases: Sequence[Case], options: argparse.Namespace
) -> list[tuple[Case, list[Generated]]]:
    """The cases of one bundle and one policy."""
    store = ModelStore(default_root())
    bundle = Bundle.load(store.resolve_bundle(cases[0].bundle))
    choices = {"verifier": link.address, "bundle": cases[0].bundle, "policy": cases[0].policy}
    settings = EdgeSettings.model_validate(choices)
    outcomes = []
    async with edge_runtime(settings, bundle) as runtime:
        tasks = chosen_tasks(runtime.tokenizer, options.per_kind)[: options.prompts]
        for case in cases:
            prompts = [tasks[0].prompt, *(task.prompt for task in tasks)]
            found = [await _generated(runtime, link, p, case, options.tokens) for p in prompts]
            outcomes.append((case, found[1:]))
    return outcomes


async def _generated(
    runtime: EdgeRuntime, link: TappedLink, prompt: tuple[int, ...], case: Case, num_tokens: int
) -> Generated:
    request = GenerationRequest(
        prompt,
        num_tokens,
        SamplingParams(temperature=case.temperature, seed=1),
        ignore_eos=True,
    )
    before = link.traffic()
    result = await runtime.generate(request, lambda _record: None)
    await asyncio.sleep(SETTLED_S)
    return _difference(result.stats, before, link.traffic())


def _difference(stats: GenerationStats, before: Traffic, after: Traffic) -> Generated:
    """What one generation added.

    Raises:
        OutriderError: the tap and the link do not agree on how many bytes there were.
    """
    up, down = since(after.up, before.up), since(after.down, before.down)
    seen = total(up).num_bytes, total(down).num_bytes
    relayed = (
        after.link_bytes_up - before.link_bytes_up,
        after.link_bytes_down - before.link_bytes_down,
    )
    if seen != relayed:
        raise OutriderError(f"The tap saw {seen} bytes, but the link relayed {relayed}.")
    return Generated(stats, Way.of(up, RUNNING_UP), Way.of(down, RUNNING_DOWN))


# --- what is printed ------------------------------------------------------------------------------


def running_table(outcomes: Sequence[tuple[Case, Sequence[Generated]]]) -> Iterator[str]:
    """What nodes and tokens cost; all generations of a case together."""
    yield "Bytes up for each drafted node, and down for each committed token:"
    yield from lines(
        (
            *CASE_HEAD,
            "nodes a message",
            "protobuf",
            "with framing",
            "windows",
            "pings",
            "tokens a message",
            "protobuf",
            "with framing",
            "windows",
            "pings",
            "tokens/s",
        ),
        [(*case.cells, *_running_cells(found)) for case, found in outcomes],
    )


def _running_cells(found: Sequence[Generated]) -> Row:
    num_nodes = sum(each.stats.num_draft_tokens for each in found)
    num_tokens = sum(each.stats.num_tokens for each in found)
    up = _way_cells([each.up for each in found], num_nodes)
    down = _way_cells([each.down for each in found], num_tokens)
    speed = statistics.median(each.stats.tokens_per_s for each in found)
    return *up, *down, f"{speed:.1f}"


def _way_cells(ways: Sequence[Way], num_units: int) -> Row:
    """Units a message, and bytes a unit: of messages, with framing, and of what gRPC adds."""
    running = sum((way.running for way in ways), Count())
    windows = sum(way.windows.num_bytes for way in ways)
    pings = sum(way.pings.num_bytes for way in ways)
    all_bytes = running.message_bytes, running.num_bytes, windows, pings
    per_unit = (f"{num_bytes / max(num_units, 1):.1f}" for num_bytes in all_bytes)
    return f"{num_units / max(running.num, 1):.2f}", *per_unit


def once_table(outcomes: Sequence[tuple[Case, Sequence[Generated]]]) -> Iterator[str]:
    """What a generation costs once: headers, the prompt, limits, trailers."""
    yield "Bytes that a generation costs once, to open and to end it (median):"
    yield from lines(
        (*CASE_HEAD, "up", "down"),
        [
            (
                *case.cells,
                f"{statistics.median(each.up.once.num_bytes for each in found):.0f}",
                f"{statistics.median(each.down.once.num_bytes for each in found):.0f}",
            )
            for case, found in outcomes
        ],
    )


def lines(head: Row, rows: Sequence[Row]) -> Iterator[str]:
    """A table in Markdown."""
    yield ""
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure bytes on the wire.")
    bundles = [f"{MODEL}-int8", f"{MODEL}-int4"]
    parser.add_argument("--bundles", nargs="+", default=bundles, help="drafters")
    parser.add_argument("--policies", nargs="+", default=["auto", "chain"])
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.0, 1.0])
    parser.add_argument("--rtt-ms", nargs="+", type=float, default=[0.0, 50.0])
    parser.add_argument("--tokens", type=int, default=256, help="of a generation (%(default)s)")
    parser.add_argument("--prompts", type=int, default=4, help="of a case (%(default)s)")
    parser.add_argument("--per-kind", type=int, default=1, help="prompts of a kind (%(default)s)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
