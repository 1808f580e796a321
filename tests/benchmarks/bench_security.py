"""Benchmark of what security costs: TLS on both sides with a token, and padding.

Sixteen sessions at a time draft for a synthetic target over loopback. Each way has a verifier of
its own; the ways take turns, and each is compared with the plain one of the same turn. Prints
tables: see `--help`.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console

from outrider.demo import READY
from outrider_cloud.token_file import add_token
from outrider_common.messages import Commit, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_common.synthetic import SyntheticSpec, guess
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.link_security import LinkSecurity

NUM_SESSIONS: Final = 16
USUAL_TOKENS: Final = 96
CHAIN: Final = 4
"""Nodes that a session drafts after each commit."""

PADDINGS_MS: Final = (10, 20, 40)
TARGETS: Final = ("c0=20ms,c1=0.2ms", "c0=2ms,c1=0ms")
"""Passes as of a small GPU, and passes so short that nearly all time goes to messages."""


@dataclass(frozen=True)
class Way:
    """One way to run it.

    Attributes:
        name: for the table.
        address: of its verifier.
        settings: of the edge.
    """

    name: str
    address: str
    settings: EdgeSettings


@dataclass
class Figures:
    """What a way has given, turn by turn: tokens/s, and bytes for each token both ways."""

    tokens_per_s: list[float] = field(default_factory=list)
    bytes_per_token: list[float] = field(default_factory=list)


async def one_session(
    link: GrpcLink, spec: SyntheticSpec, number: int, num_tokens: int
) -> tuple[int, int]:
    """Draft one answer to its end; tokens and bytes."""
    text = [1 + (number * 7 + i) % 150 for i in range(20)]
    message = OpenSession(
        tuple(text), len(text), num_tokens, SamplingParams(), spec.tokenizer_fingerprint
    )
    session = await link.open(message, 65536)
    num_nodes, start = 0, len(text)
    while (event := await session.receive()) is not None:
        if not isinstance(event, Commit):
            continue
        text += event.tokens
        if event.finish_reason is not None:
            break
        nodes = chain(spec, text, num_nodes)
        num_nodes += len(nodes)
        await session.extend(nodes)
    return len(text) - start, session.bytes_up + session.bytes_down


def chain(spec: SyntheticSpec, text: Sequence[int], num_before: int) -> list[DraftNode]:
    """Guesses that follow a text, as nodes."""
    drafted, nodes = list(text), []
    for i in range(CHAIN):
        drafted.append(guess(spec, drafted, 1))
        parent = AtNode(num_before + i) if i else AtPosition(len(text) - 1)
        nodes.append(DraftNode(num_before + i + 1, drafted[-1], parent))
    return nodes


async def one_turn(way: Way, spec: SyntheticSpec, num_tokens: int, figures: Figures) -> None:
    """All sessions at once, over one link."""
    security = LinkSecurity.of(way.settings)
    link = GrpcLink(way.address, security=security, pad_ms=way.settings.pad_ms)
    async with link:
        await link.model_info()  # connects
        began = time.perf_counter()
        answers = await asyncio.gather(
            *(one_session(link, spec, number, num_tokens) for number in range(NUM_SESSIONS))
        )
        seconds = time.perf_counter() - began
    total = sum(tokens for tokens, _ in answers)
    figures.tokens_per_s.append(total / seconds)
    figures.bytes_per_token.append(sum(size for _, size in answers) / total)


async def measure(
    ways: Sequence[Way], spec: SyntheticSpec, num_turns: int, num_tokens: int
) -> list[Figures]:
    """The ways in turn; the first turn only warms up."""
    all_figures = [Figures() for _ in ways]
    for way in ways:
        await one_turn(way, spec, num_tokens, Figures())
    for _ in range(num_turns):
        for way, figures in zip(ways, all_figures, strict=True):
            await one_turn(way, spec, num_tokens, figures)
    return all_figures


@contextlib.contextmanager
def verifier(model: str, *options: str) -> Iterator[str]:
    """A verifier as a process of its own; its address."""
    command = [sys.executable, "-m", "outrider", "verifier", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", model, *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        ready = READY.match(process.stdout.readline())
        assert ready is not None, "the verifier did not start"
        yield ready.group(1)
    finally:
        process.terminate()
        process.wait(timeout=60)


def issue(directory: Path, name: str, alternative: str) -> None:
    """An authority if there is none, and a pair of files."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    commands = []
    if not (directory / "ca.pem").exists():
        files = ["-keyout", "ca.key", "-out", "ca.pem"]
        commands.append(["req", "-x509", *key, "-days", "2", "-subj", "/CN=ca", *files])
    (directory / "names").write_text(f"subjectAltName={alternative}\n")
    files = ["-keyout", f"{name}.key", "-out", f"{name}.csr"]
    commands.append(["req", *key, "-subj", f"/CN={name}", *files])
    ca = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1"]
    signed = ["-extfile", "names", "-out", f"{name}.pem"]
    commands.append(["x509", "-req", "-in", f"{name}.csr", *ca, *signed])
    for command in commands:
        subprocess.run(["openssl", *command], cwd=directory, check=True, capture_output=True)


@contextlib.contextmanager
def ways_to_run(model: str) -> Iterator[list[Way]]:
    """Plain, secured, and padded in several ways."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        issue(directory, "verifier", "IP:127.0.0.1")
        issue(directory, "edge", "URI:spiffe://example.org/edge")
        token = directory / "token"
        token.write_text(add_token(directory / "tenants.toml", "acme").text)
        plain = stack.enter_context(verifier(model))
        files = {"certificate": "verifier.pem", "key": "verifier.key", "client-ca": "ca.pem"}
        options = [f"--tls-{what}={directory / file}" for what, file in files.items()]
        options.append(f"--tenants={directory / 'tenants.toml'}")
        secured = stack.enter_context(verifier(model, *options))
        settings = EdgeSettings(
            tls_ca=directory / "ca.pem",
            tls_certificate=directory / "edge.pem",
            tls_key=directory / "edge.key",
            token_file=token,
        )
        padded = [
            Way(f"plain, padded every {pad_ms} ms", plain, EdgeSettings(pad_ms=pad_ms))
            for pad_ms in PADDINGS_MS
        ]
        yield [
            Way("plain text", plain, EdgeSettings()),
            Way("mutual TLS and a token", secured, settings),
            *padded,
        ]


def print_table(target: str, ways: Sequence[Way], all_figures: Sequence[Figures]) -> None:
    """Medians, and medians of what each way is to the plain one of the same turn."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"\n{target}\n\n| way | tokens/s | of plain (median of turns) | bytes a token |")
    console.print("|---|---|---|---|")
    plain = all_figures[0].tokens_per_s
    for way, figures in zip(ways, all_figures, strict=True):
        shares = [own / base for own, base in zip(figures.tokens_per_s, plain, strict=True)]
        console.print(
            f"| {way.name} | {statistics.median(figures.tokens_per_s):.0f} "
            f"| {statistics.median(shares):.3f} ({min(shares):.3f} to {max(shares):.3f}) "
            f"| {statistics.median(figures.bytes_per_token):.0f} |"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=USUAL_TOKENS, help="of each answer")
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument("--no-padding", action="store_true", help="TLS only")
    options = parser.parse_args()
    for target in options.target or TARGETS:
        model = f"synthetic:vocab=200,acceptance=0.8,{target},positions=512"
        with ways_to_run(model) as ways:
            chosen = ways[:2] if options.no_padding else ways
            spec, turns, tokens = SyntheticSpec.parse(model), options.turns, options.tokens
            all_figures = asyncio.run(measure(chosen, spec, turns, tokens))
            print_table(target, chosen, all_figures)


if __name__ == "__main__":
    main()
