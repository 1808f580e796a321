"""`outrider demo`: a real answer, drafted by one process and verified by another.

Runs the commands that a user would type, each as a process of its own, and compares the answer
with what the verifier writes alone. Knows nothing of how drafting and verifying work.
"""

import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from outrider_common.errors import InvalidInputError, OutriderError, UnavailableError
from outrider_edge.render import print_table

MODEL: Final = "smollm2-135m"
COPIES: Final = ("int8", "int4")
"""Quantisations of the target itself."""

TRAINED_QUANTISATION: Final = "int4"
TRAINED_NAME: Final = f"{MODEL}-trained"
DEFAULT_PROMPT: Final = "Write a short story about a lighthouse keeper."

READY: Final = re.compile(r"Verifier ready: .* on (\S+)")
"""What `outrider verifier serve` prints when it is ready, and where it listens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What `outrider edge run --record` wrote."""

    tokens: tuple[int, ...]
    stats: dict[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Answer":
        """Read a record file."""
        document = json.loads(file.read_text(encoding="utf-8"))
        return cls(tuple(token["token"] for token in document["tokens"]), document["stats"])


@click.command(name="demo")
@click.option("--prompt", default=DEFAULT_PROMPT, show_default=True, help="What to answer.")
@click.option(
    "--drafter",
    default=COPIES[0],
    show_default=True,
    metavar=f"{'|'.join(COPIES)}|FILE",
    help="A quantised copy of the target, or trained layers of a smaller drafter.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Tokens of the answer at most.",
)
def demo(prompt: str, drafter: str, max_tokens: int) -> None:
    """Draft and verify one answer on this machine, and compare it with the verifier alone."""
    console = Console()
    making = _making(drafter)
    for arguments in (("pull", MODEL), making):
        _show(console, "models", *arguments)
        _run("models", *arguments, has_output=False)
    bundle = _bundle_name(drafter)
    with tempfile.TemporaryDirectory() as folder, _verifier(console) as address:
        options = ("--verifier", address, "--bundle", bundle, "--max-tokens", str(max_tokens))
        edge = ("edge", "run", prompt, *options)
        drafted = Path(folder) / "drafted.json"
        alone = Path(folder) / "alone.json"
        with console.status("Warming up ..."):
            _warm_up(address, bundle)
        _show(console, *edge)
        _run(*edge, "--no-summary", "--record", str(drafted))
        with console.status("Measuring the cloud alone: the same prompt, nothing drafted ..."):
            _run(*edge, "--policy", "cloud", "--record", str(alone), has_output=False)
        _report(console, drafter, Answer.read(alone), Answer.read(drafted))


def _making(drafter: str) -> tuple[str, ...]:
    """The command that makes the drafter's bundle.

    Raises:
        InvalidInputError: it is neither a copy nor a file.
    """
    if drafter in COPIES:
        return ("export", MODEL, "--quantisation", drafter)
    if not Path(drafter).is_file():
        raise InvalidInputError(
            f"There is no drafter '{drafter}'; give {' or '.join(COPIES)}, or a file of trained "
            "layers."
        )
    options = ("--quantisation", TRAINED_QUANTISATION, "--name", TRAINED_NAME, "--force")
    return ("assemble", drafter, *options)


def _bundle_name(drafter: str) -> str:
    return f"{MODEL}-{drafter}" if drafter in COPIES else TRAINED_NAME


def _warm_up(address: str, bundle: str) -> None:
    """Touch every page of both models once, so that neither measurement pays for it."""
    options = ("--verifier", address, "--bundle", bundle, "--max-tokens", "8")
    _run("edge", "run", "Hi", *options, has_output=False)


def _show(console: Console, *arguments: str, end: str = "") -> None:
    """Show a command as a user would type it."""
    line = f"$ outrider {shlex.join(arguments)}{end}"
    console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "outrider", *arguments]


def _run(*arguments: str, has_output: bool = True) -> None:
    """Run one of our own commands; progress and errors are on the screen in any case."""
    output = None if has_output else subprocess.DEVNULL
    status = subprocess.run(_command(arguments), stdout=output, check=False).returncode
    if status != 0:
        raise OutriderError(
            f"The demo stopped because 'outrider {arguments[0]} {arguments[1]}' failed with status "
            f"{status}; what it said stands above."
        )


@contextmanager
def _verifier(console: Console) -> Iterator[str]:
    """A verifier in a process of its own on a free port; yields its address."""
    arguments = ("verifier", "serve", "--model", MODEL, "--port", "0")
    _show(console, *arguments, end=" &")
    process = subprocess.Popen(_command(arguments), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = READY.match(line)
        if ready is None:
            raise UnavailableError("The verifier did not start; what it said stands above.")
        console.print(line.strip(), style="dim", markup=False, highlight=False)
        yield ready.group(1)
    finally:
        process.terminate()
        process.wait()


def _report(console: Console, drafter: str, alone: Answer, drafted: Answer) -> None:
    """The table, measured in this run."""
    rows: list[tuple[str, object, object]] = [
        ("tokens/s", alone.stats["tokens_per_s"], drafted.stats["tokens_per_s"]),
        ("acceptance rate", None, drafted.stats["acceptance_rate"]),
        (
            "committed tokens per verification pass",
            alone.stats["tokens_per_pass"],
            drafted.stats["tokens_per_pass"],
        ),
        *(
            (f"bytes {way} per token", alone.stats[name], drafted.stats[name])
            for way, name in (("up", "bytes_up_per_token"), ("down", "bytes_down_per_token"))
        ),
        ("exact: the same text as the cloud alone", None, _yes_no(alone, drafted)),
    ]
    console.print()
    print_table(
        console,
        f"{len(drafted.tokens)} tokens, one thread each for verifier and edge, loopback",
        ("", "cloud alone", "Outrider"),
        rows,
    )
    console.print(_conclusion(drafter, alone, drafted), highlight=False)


def _conclusion(drafter: str, alone: Answer, drafted: Answer) -> str:
    ratio = drafted.stats["tokens_per_s"] / max(alone.stats["tokens_per_s"], 1e-9)
    what = (
        f"an {drafter} copy of the target itself: a pair that shows the machinery at its best"
        if drafter in COPIES
        else "made of a few layers of the target, trained on what the target writes"
    )
    return f"Outrider was {ratio:.2f} times as fast as the cloud alone. The drafter is {what}."


def _yes_no(alone: Answer, drafted: Answer) -> str:
    return "yes" if alone.tokens == drafted.tokens else "no"
