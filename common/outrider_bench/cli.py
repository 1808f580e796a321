"""`outrider bench`: what Outrider is measured with."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from outrider_bench import quantities
from outrider_bench.asking import (
    FULL,
    QUICK,
    SYNTHETIC_DRAFT_TIME,
    Asked,
    assistants_from,
    request_for,
)
from outrider_bench.bench_run import BenchRun, RunOptions
from outrider_bench.bench_terminal import BenchTerminal
from outrider_bench.faults import Fault
from outrider_bench.lineup import BASELINE, PLANS
from outrider_bench.link import LOOPBACK, LinkEmulator
from outrider_bench.link_stats import LinkStats, WayStats
from outrider_bench.precise_loop import precise_event_loop
from outrider_bench.profile import PROFILES, LinkProfile, named_profile
from outrider_bench.recorder import RecordRequest
from outrider_bench.recorder import record as recorded
from outrider_bench.report_files import read_measured, read_trace, write_report
from outrider_bench.report_page import Report
from outrider_bench.sources import checkout_prompts, file_in_words
from outrider_charts.png import can_render
from outrider_common.cli_options import settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.output_file import require_writable
from outrider_common.settings.edge import DEFAULT_BUNDLE
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.section import DEFAULT_MODEL
from outrider_models.store import ModelStore, default_root

_READERS: Final = {
    "rtt": ("rtt_s", quantities.seconds),
    "jitter": ("jitter_s", quantities.seconds),
    "up": ("up_bits_per_s", quantities.bits_per_s),
    "down": ("down_bits_per_s", quantities.bits_per_s),
    "loss": ("loss_rate", quantities.share),
    "loss_burst": ("loss_burst", quantities.number),
    "queue": ("queue_bytes", quantities.num_bytes),
    "window": ("window_bytes", quantities.num_bytes),
}
"""For each option of a link its field, and how its value is read."""


@click.group(name="bench")
def bench() -> None:
    """Measure: compare policies over emulated links between edge and verifier."""


@bench.command()
@click.option(
    "--target",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="MODEL",
    help="The target, 'synthetic:c0=55ms,c1=0.3ms,acceptance=0.8', or 'recorded:FILE'.",
)
@click.option(
    "--bundle", "bundles", multiple=True, metavar="NAME", help="A drafter bundle. Repeatable."
)
@click.option("--policies", metavar="LIST", help=f"Of {', '.join(PLANS)}; '{BASELINE}' always.")
@click.option("--rtt", metavar="LIST", help="Round trips, such as 0ms,50ms.")
@click.option("--bandwidth", metavar="LIST", help="Of either way, such as 1Mbit,unlimited.")
@click.option("--sessions", metavar="LIST", help="Generations at the same time, such as 1,4.")
@click.option("--temperature", metavar="LIST", help="0 is greedy.")
@click.option("--prompts", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--num-prompts",
    type=click.IntRange(1),
    help="Of a round, spread over the tasks; at least one for each session.",
)
@click.option("--tokens", type=click.IntRange(2), help="Of an answer at most.")
@click.option("--rounds", type=click.IntRange(1), help="In each place of the grid.")
@click.option("--warm-up", type=click.IntRange(1), help="Prompts of each policy, uncounted.")
@click.option("--seed", type=click.IntRange(0, 2**63), default=0, show_default=True)
@click.option("--proposers", default="lm", show_default=True, metavar="LIST", help="What drafts.")
@click.option(
    "--draft-time",
    default=SYNTHETIC_DRAFT_TIME,
    show_default=True,
    metavar="TIME",
    help="Of a level of drafts for a synthetic target.",
)
@click.option(
    "--assistant",
    "assistants",
    multiple=True,
    metavar="BUNDLE=DIR",
    help="The torch model that assists Transformers in place of a bundle. Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("bench-results.json"),
    show_default=True,
    metavar="FILE",
)
@click.option("--resume", is_flag=True, help="Go on with the file, if it is there.")
@click.option("--force", is_flag=True, help="Begin the file anew.")
@click.option("--quick", is_flag=True, help="See whether it works, in less than three minutes.")
@settings_options(ModelSettings)
def run(
    target: str,
    bundles: tuple[str, ...],
    prompts: Path | None,
    seed: int,
    proposers: str,
    draft_time: str,
    assistants: tuple[str, ...],
    out: Path,
    resume: bool,
    force: bool,
    quick: bool,
    loaded: LoadedSettings,
    **asked: Any,
) -> None:
    """Compare policies over a grid of links, sessions and temperatures.

    The file of results is whole after every round: what was interrupted goes on with --resume.
    """
    prompts = prompts or checkout_prompts()
    request = request_for(
        Asked(**asked),
        QUICK if quick else FULL,
        target=target,
        bundles=bundles or (DEFAULT_BUNDLE,),
        seed=seed,
        proposers=proposers,
        draft_time=draft_time,
        prompt_file=None if prompts is None else file_in_words(prompts),
    )
    options = RunOptions(out, resume, force, prompts, assistants_from(assistants))
    store = ModelStore(loaded.settings.models.cache_dir or default_root())
    terminal = BenchTerminal()
    bench_run = BenchRun(request, options, store, terminal)
    with interrupted_by_sigterm(), terminal:
        results = bench_run.run()
    click.echo(f"{len(results.cells)} cells in {out}")


@bench.command()
@click.option("--target", default=DEFAULT_MODEL, show_default=True, metavar="MODEL")
@click.option(
    "--bundle",
    default=DEFAULT_BUNDLE,
    show_default=True,
    metavar="NAME",
    help="A drafter of the target, for its tokenizer and chat template.",
)
@click.option("--prompts", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option(
    "--num-prompts",
    type=click.IntRange(min=1),
    default=FULL.num_prompts,
    show_default=True,
    help="As many as the runs have that play it.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=2),
    default=FULL.tokens,
    show_default=True,
    help="Of an answer at most; runs that play it may ask for fewer.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("recording.json"),
    show_default=True,
    metavar="FILE",
)
@settings_options(ModelSettings)
def record(out: Path, prompts: Path | None, loaded: LoadedSettings, **asked: Any) -> None:
    """Record the greedy answers of a target, and how long its passes take while nobody drafts.

    'outrider bench run --target recorded:FILE' plays them: edge and verifier are then as if on two
    machines, although they share one.
    """
    require_writable(out, "--out")
    prompts = prompts or checkout_prompts()
    store = ModelStore(loaded.settings.models.cache_dir or default_root())
    terminal = BenchTerminal()
    with interrupted_by_sigterm(), terminal:
        recording = recorded(RecordRequest(prompts=prompts, **asked), store, terminal)
    recording.write(out)
    click.echo(
        f"{len(recording.texts)} answers in {out}; a pass of n rows takes "
        f"{recording.c0_s * 1e3:.2f} ms + n * {recording.c1_s * 1e3:.2f} ms"
    )


@bench.command()
@click.argument("results", type=click.Path(path_type=Path), metavar="RESULTS")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("bench-report"),
    show_default=True,
    metavar="DIR",
    help="Where the page and the charts go.",
)
@click.option(
    "--trace",
    "traces",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A timeline of this generation ('outrider edge run --trace FILE'), and formulas with its "
    "pace. Repeatable.",
)
@settings_options()
def report(results: Path, out: Path, traces: tuple[Path, ...], loaded: LoadedSettings) -> None:
    """Show RESULTS of 'outrider bench run' as one HTML page, and its charts as SVG and PNG."""
    measured = Report.of(read_measured(results), [read_trace(path) for path in traces])
    files = write_report(measured, out)
    click.echo(f"{files[0]} and {len(files) - 1} pictures")
    if not can_render():
        click.echo("PNGs need the extra 'report': pip install 'outrider[report]'")


@bench.command()
@click.option("--target", required=True, metavar="HOST:PORT", help="Relay connections to this.")
@click.option("--listen", default=LOOPBACK, show_default=True, metavar="HOST:PORT")
@click.option(
    "--profile",
    default="none",
    show_default=True,
    metavar="NAME",
    help=f"Begin with a named link, one of {', '.join(PROFILES)}; the options below change it.",
)
@click.option("--rtt", metavar="TIME", help="Round trip, such as 100ms; half of it each way.")
@click.option("--jitter", metavar="TIME", help="What a round trip takes longer on average.")
@click.option("--up", metavar="BITS", help="Bandwidth to the target, such as 5Mbit a second.")
@click.option("--down", metavar="BITS", help="Bandwidth from the target, or 'unlimited'.")
@click.option("--loss", metavar="SHARE", help="Packets that are lost and sent again, such as 1%.")
@click.option("--loss-burst", metavar="NUMBER", help="Packets lost in a row, on average.")
@click.option("--queue", metavar="BYTES", help="Room before the bottleneck, such as 256KiB.")
@click.option("--window", metavar="BYTES", help="The most under way in each direction.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="FAULT",
    help="freeze:at=2s,for=500ms; reset:at=10s; cut:way=down,after=1000; "
    "half-open:way=up,after=200,connection=1. Repeatable.",
)
@click.option("--seed", default=0, show_default=True, help="Another one, other jitter and loss.")
@settings_options()
def link(
    target: str,
    listen: str,
    profile: str,
    faults: tuple[str, ...],
    seed: int,
    loaded: LoadedSettings,
    **described: str | None,
) -> None:
    """Emulate a link to a target, until interrupted.

    The link's own address is printed when it is ready; the target is reached through that.
    """
    emulator = LinkEmulator(
        described_profile(profile, described),
        target,
        listen=listen,
        seed=seed,
        faults=[Fault.parse(text) for text in faults],
    )
    with asyncio.Runner(loop_factory=precise_event_loop) as runner:
        stats = runner.run(_run(emulator, target))
    click.echo(_in_words(stats))


def described_profile(name: str, described: dict[str, str | None]) -> LinkProfile:
    """A named link, changed as the options say.

    Raises:
        ConfigError: there is none of that name, or a value cannot be used.
    """
    changes: dict[str, Any] = {}
    for option, (field, read) in _READERS.items():
        text = described.get(option)
        if text is not None:
            changes[field] = read(f"--{option.replace('_', '-')}", text)
    return replace(named_profile(name), **changes)


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM is Ctrl-C within the block, so that what was started is ended."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _run(emulator: LinkEmulator, target: str) -> LinkStats:
    """Emulate until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with emulator as running:
        click.echo(f"Link ready: {running.address} to {target}: {running.profile}")
        await stopped.wait()
    return emulator.stats


def _in_words(stats: LinkStats) -> str:
    return (
        f"{stats.num_connections} connections; up {_way_in_words(stats.up)}; "
        f"down {_way_in_words(stats.down)}"
    )


def _way_in_words(stats: WayStats) -> str:
    if stats.mean_delay_s is None or stats.mean_lateness_s is None:
        return "nothing"
    return (
        f"{stats.num_bytes} bytes in {stats.num_packets} packets, {stats.num_lost} of them lost, "
        f"{quantities.duration(stats.mean_delay_s)} on average, "
        f"{quantities.duration(stats.mean_lateness_s)} of that late"
    )
