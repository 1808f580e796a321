"""`outrider edge`: run one generation, or serve many; drafted here, verified in the cloud."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from outrider_common.acceptance import AcceptanceMode
from outrider_common.cli_options import settings_options
from outrider_common.config import Settings
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import InvalidPromptError
from outrider_common.generation_trace import GenerationTrace
from outrider_common.output_file import require_writable
from outrider_common.records import TokenRecord
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.fleet import FleetSettings
from outrider_common.settings.models import ModelSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_common.settings.telemetry import TelemetrySettings
from outrider_edge.answer import OnToken
from outrider_edge.chrome_trace import chrome_trace_as_text
from outrider_edge.daemon_client import DaemonAddress, DaemonClient, Json, NoDaemonError
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.generation_requests import generation_request
from outrider_edge.render import TokenRenderer, print_table
from outrider_edge.status_view import ask_status, table_of
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_edge.tracing import TraceRecorder

_Traced = tuple[GenerationResult, GenerationTrace]
"""An answer, and what happened when."""

NOT_RUNNING: Final = 3
"""The exit status of `outrider edge status` where no daemon runs, as of `systemctl status`."""

_STATUS_TIMEOUT_S: Final = 10.0
"""Longer than a daemon waits for its verifier, by default."""


@click.group(name="edge")
def edge() -> None:
    """Run the edge: draft on this machine, let the verifier decide."""


@edge.command()
@click.argument("prompt")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without the chat template.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. Repeatable.")
@click.option("--ignore-eos", is_flag=True, help="Go on after the model's end of text.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the full record of every token as JSON."
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write the full record of every token to FILE as JSON, too.",
)
@click.option(
    "--trace",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write what happened when to FILE, to be opened with Perfetto or chrome://tracing.",
)
@click.option("--summary/--no-summary", default=True, help="End with a table of figures.")
@settings_options(EdgeSettings, SamplingSettings, ModelSettings)
def run(
    prompt: str,
    raw: bool,
    stop: tuple[str, ...],
    ignore_eos: bool,
    as_json: bool,
    record: Path | None,
    trace: Path | None,
    summary: bool,
    loaded: LoadedSettings,
) -> None:
    """Answer PROMPT ('-' reads it from standard input), every token marked by its origin."""
    text = sys.stdin.read() if prompt == "-" else prompt
    if not text.strip():
        raise InvalidPromptError("The prompt is empty; say what to answer.")
    if trace is not None:
        require_writable(trace, "--trace")
    shape = _Shape(text, raw, stop, ignore_eos)
    if as_json:
        result, happened = asyncio.run(_generate(loaded.settings, shape, lambda _record: None))
        click.echo(result_as_json(result))
    else:
        result, happened = asyncio.run(_generate_visibly(loaded.settings, shape))
        if summary:
            print_summary(Console(), result)
        if result.acceptance_mode is not AcceptanceMode.EXACT:
            Console().print(whose_text(result.acceptance_mode), soft_wrap=True)
    if record is not None:
        record.write_text(result_as_json(result) + "\n", encoding="utf-8")
    if trace is not None:
        trace.write_text(chrome_trace_as_text(happened), encoding="utf-8")


@edge.command()
@settings_options(
    DaemonSettings, EdgeSettings, SamplingSettings, ModelSettings, FleetSettings, TelemetrySettings
)
def serve(loaded: LoadedSettings) -> None:
    """Serve an OpenAI-compatible API on this machine until interrupted."""
    from outrider_edge.daemon import serve as run_daemon  # the model runtime takes a while
    from outrider_models.store import ModelStore, default_root

    settings = loaded.settings
    store = ModelStore(settings.models.cache_dir or default_root())
    asyncio.run(run_daemon(settings, store, lambda: loaded.again(os.environ).settings))


@edge.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, each time in one line.")
@click.option("--watch", is_flag=True, help="Show it anew, again and again, until interrupted.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@settings_options(DaemonSettings)
@click.pass_context
def status(
    context: click.Context, as_json: bool, watch: bool, interval: float, loaded: LoadedSettings
) -> None:
    """Show how the running daemon is; status 3 if there is none."""
    client = DaemonClient(DaemonAddress.of(loaded.settings.daemon), timeout_s=_STATUS_TIMEOUT_S)
    try:
        if watch:
            asyncio.run(_watch(client, interval, as_json))
        else:
            _print_status(Console(), asyncio.run(ask_status(client)), as_json)
    except NoDaemonError as error:
        click.echo(f"outrider: {error}", err=True)
        context.exit(NOT_RUNNING)


async def _watch(client: DaemonClient, interval_s: float, as_json: bool) -> None:
    """Show the status until interrupted; a daemon that goes away is waited for."""
    console = Console()
    while True:
        try:
            shown = await ask_status(client)
        except NoDaemonError as error:
            click.echo(f"outrider: {error}", err=True)
        else:
            if not as_json and console.is_terminal:
                console.clear()
            _print_status(console, shown, as_json)
        await asyncio.sleep(interval_s)


def _print_status(console: Console, shown: Json, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(shown))
    else:
        console.print(table_of(shown))


class _Shape:
    """What the command line says of a request, before there is a tokenizer."""

    def __init__(self, text: str, raw: bool, stop: tuple[str, ...], ignore_eos: bool) -> None:
        self._text = text
        self._raw = raw
        self._stop = stop
        self._ignore_eos = ignore_eos

    def request(self, tokenizer: EdgeTokenizer, settings: SamplingSettings) -> GenerationRequest:
        """The request, with the prompt as tokens."""
        prompt = (
            tokenizer.encode(self._text)
            if self._raw
            else tokenizer.encode_chat([{"role": "user", "content": self._text}])
        )
        return generation_request(prompt, settings, self._stop, ignore_eos=self._ignore_eos)


async def _generate(settings: Settings, shape: _Shape, on_token: OnToken) -> _Traced:
    from outrider_edge.calibration_store import CalibrationStore
    from outrider_edge.runtime import edge_runtime  # the model runtime takes a while to import
    from outrider_models.bundle import Bundle
    from outrider_models.store import ModelStore, default_root

    store = ModelStore(settings.models.cache_dir or default_root())
    bundle = Bundle.load(store.resolve_bundle(settings.edge.bundle))
    calibrations = CalibrationStore(store.root / "calibrations")
    async with edge_runtime(settings.edge, bundle, calibrations) as runtime:
        recorder = TraceRecorder()
        request = shape.request(runtime.tokenizer, settings.sampling)
        result = await runtime.generate(request, on_token, recorder)
        return result, runtime.trace(recorder, result, drafter=bundle.path.name)


async def _generate_visibly(settings: Settings, shape: _Shape) -> _Traced:
    renderer = TokenRenderer(Console())
    is_first = True

    def show(record: TokenRecord) -> None:
        nonlocal is_first
        if is_first:
            renderer.legend()
            is_first = False
        renderer.piece(record.text, record.origin)

    try:
        return await _generate(settings, shape, show)
    finally:
        renderer.finish()


def print_summary(console: Console, result: GenerationResult) -> None:
    """Print the figures of one answer."""
    stats = result.stats
    print_table(
        console,
        "This answer",
        ("", "value"),
        (
            ("tokens", stats.num_tokens),
            ("ended by", result.finish_reason.value),
            ("acceptance mode", result.acceptance_mode.value),
            ("tokens/s", stats.tokens_per_s),
            ("time to first token, s", stats.time_to_first_token_s),
            ("acceptance rate", stats.acceptance_rate),
            ("committed tokens per verification pass", stats.tokens_per_pass),
            ("bytes up per token", stats.bytes_up_per_token),
            ("bytes down per token", stats.bytes_down_per_token),
        ),
    )


def whose_text(mode: AcceptanceMode) -> str:
    """One sentence: what a text of a mode other than `exact` has in common with the target's."""
    if mode.is_lossless:
        return (
            f"Acceptance mode '{mode.value}': the text has the target's own distribution; "
            "the same seed may give another one."
        )
    return f"Acceptance mode '{mode.value}' is lossy: the text is not the target's own."


def result_as_json(result: GenerationResult) -> str:
    """An answer with the record of every token, as JSON."""
    document = {
        "text": result.text,
        "finish_reason": result.finish_reason.value,
        "acceptance_mode": result.acceptance_mode.value,
        "is_lossless": result.acceptance_mode.is_lossless,
        "tokens": [record.as_json() for record in result.records],
        "stats": result.stats.as_json(),
    }
    return json.dumps(document, indent=2)
