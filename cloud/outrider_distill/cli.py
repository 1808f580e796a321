"""The commands that make drafters and judge them: `outrider models distill`, `... evaluate`.

Thin: parses and prints. What they need is imported when they run.
"""

import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from outrider_common.cli_options import settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.output_file import require_writable, write_output
from outrider_common.settings.models import ModelSettings
from outrider_distill.terminal import StepsTerminal
from outrider_models.extras import needs_extra
from outrider_models.store import ModelStore, default_root
from outrider_models.terminal import Terminal

_LOSSES = ("kl", "tv", "kl+tv")  # as outrider_distill.losses.Loss, which needs torch
_SCHEMES = ("none", "int8", "int4", "int4-offset")  # as outrider_export.Scheme
_EXISTING_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)

_THREADS = click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="CPU threads.",
)
_QUANTISATION = click.option(
    "--quantisation",
    type=click.Choice(_SCHEMES),
    default="int8",
    show_default=True,
    help="How the bundle stores its weights.",
)


def _layer_numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    if value is None:
        return None
    try:
        return tuple(int(number) for number in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of layers such as 0,1,29.") from None


def _temperatures(
    context: click.Context, parameter: click.Parameter, value: str
) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in value.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= 10 for number in numbers):
        raise click.BadParameter(f"{value!r} is not a list of temperatures such as 1,0.6,0.")
    return numbers


@click.command(name="distill")
@click.argument("target")
@click.option(
    "--layers",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Layers of the drafter; the first, the last and some between of the target's.",
)
@click.option("--take", callback=_layer_numbers, help="Exactly these layers, such as 0,1,29.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Directory for all of the work."
)
@click.option(
    "--prompts",
    type=_EXISTING_FILE,
    multiple=True,
    help="Questions for half of the text, as JSON lines; may be given several times.",
)
@click.option(
    "--openings",
    type=_EXISTING_FILE,
    help="Beginnings, as JSON lines, which TARGET makes every second question of its own of.",
)
@click.option(
    "--text-tokens",
    type=click.IntRange(min=1),
    default=400_000,
    show_default=True,
    help="How much text to learn from.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=32),
    default=384,
    show_default=True,
    help="Tokens of one text at most.",
)
@click.option(
    "--temperatures",
    default="1,0.6,0",
    show_default=True,
    callback=_temperatures,
    help="Of the target's answers, in turn.",
)
@click.option(
    "--loss",
    type=click.Choice(_LOSSES),
    default="kl+tv",
    show_default=True,
    help="What training makes small.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=3e-3,
    show_default=True,
    help="The highest, of AdamW.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    help="Tokens of a training step.",
)
@click.option(
    "--epochs",
    type=click.FloatRange(0, min_open=True),
    default=6,
    show_default=True,
    help="How often each text is learned from.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Decides text and training.",
)
@click.option(
    "--block",
    type=click.IntRange(1, 16),
    default=1,
    show_default=True,
    help="Tokens that the drafter learns to propose in one pass.",
)
@click.option(
    "--text-of",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Directory of another distillation of TARGET: learn from its text, too.",
)
@click.option("--start-from", type=_EXISTING_FILE, help="Trained layers to begin with.")
@click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="auto",
    show_default=True,
    help="Where to write and train. auto: on a GPU if there is one.",
)
@click.option("--as-is", is_flag=True, help="Export what the last checkpoint holds; train no more.")
@_THREADS
@_QUANTISATION
@click.option("--name", help="The bundle's name; default: made of the target's.")
@settings_options(ModelSettings)
def distill(target: str, loaded: LoadedSettings, **options: Any) -> None:
    """Make a drafter of TARGET: it writes text, and a few of its layers learn from it.

    Give the same command again after an interruption: it goes on where it was.
    """
    with needs_extra("export", "Distilling a drafter"):
        from outrider_distill.distil import Distillation, Machine
    _hush_transformers()
    store = _store(loaded)
    terminal = StepsTerminal()
    machine = Machine(options["device"], options["threads"])
    request = _request(target, store, options)
    run = Distillation(request, options["out"], store, machine, terminal)
    if options["as_is"]:
        student = run.trained_so_far()
    else:
        with terminal.bar():
            run.write_text()
            student = run.train()
    terminal.conclude(run.export(student, options["quantisation"], options["name"]))


def _request(target: str, store: ModelStore, options: dict[str, Any]) -> Any:
    from outrider_distill.losses import Loss
    from outrider_distill.request import DistillRequest
    from outrider_distill.student import spread_layers
    from outrider_distill.target_config import target_config

    num_layers = target_config(store.resolve_model(target)).num_hidden_layers
    return DistillRequest(
        target=target,
        layers=options["take"] or spread_layers(num_layers, options["layers"]),
        prompts=options["prompts"],
        openings=options["openings"],
        text_tokens=options["text_tokens"],
        max_tokens=options["max_tokens"],
        temperatures=options["temperatures"],
        loss=Loss(options["loss"]),
        learning_rate=options["learning_rate"],
        batch_tokens=options["batch_tokens"],
        epochs=options["epochs"],
        seed=options["seed"],
        block=options["block"],
        text_of=options["text_of"],
        start_from=options["start_from"],
    )


@click.command(name="assemble")
@click.argument("layers", type=_EXISTING_FILE)
@click.option("--target", help="The model that they were trained for; default: as LAYERS says.")
@_QUANTISATION
@click.option("--name", help="The bundle's name; default: made of the target's.")
@click.option(
    "--draft-vocabulary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Draft only from the N most frequent tokens: faster steps, a few guesses less.",
)
@click.option(
    "--draft-text",
    type=_EXISTING_FILE,
    help="Count tokens in this text; default: the lowest ids are taken for the most frequent.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write here, not into the store.")
@click.option("--force", is_flag=True, help="Make it anew, even if it is there already.")
@settings_options(ModelSettings)
def assemble(layers: Path, loaded: LoadedSettings, **options: Any) -> None:
    """Make a drafter bundle of trained LAYERS and the target that they were trained for."""
    with needs_extra("export", "Assembling a drafter"):
        from outrider_distill.assembling import assemble as run
    _hush_transformers()
    terminal = Terminal()
    terminal.conclude(run(layers, _store(loaded), terminal, **options))


@click.command(name="evaluate")
@click.argument("bundles", metavar="BUNDLE...", nargs=-1, required=True)
@click.option("--target", required=True, help="The model that the bundles draft for.")
@click.option("--prompts", type=_EXISTING_FILE, required=True, help="Questions, as JSON lines.")
@click.option("--most-per-task", type=click.IntRange(min=1), help="Questions of each task at most.")
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    default=128,
    show_default=True,
    help="Tokens of an answer at most.",
)
@click.option(
    "--temperatures",
    default="0,1",
    show_default=True,
    callback=_temperatures,
    help="Of the target's answers, one after the other.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of sampled answers.",
)
@_THREADS
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the result here.")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Write an SVG here.")
@settings_options(ModelSettings)
def evaluate(
    bundles: tuple[str, ...],
    target: str,
    prompts: Path,
    loaded: LoadedSettings,
    json_file: Path | None,
    plot_file: Path | None,
    **options: Any,
) -> None:
    """Judge drafters: what their target accepts of them, and how much faster that is.

    Several are judged by the same answers, and compared by the speed to be expected of them.
    """
    with needs_extra("export", "Evaluating a drafter"):
        from outrider_distill.answers import EvaluationRequest
        from outrider_distill.evaluation import evaluate as run
        from outrider_distill.report import plot, tables, times_sentences
    _hush_transformers()
    for path, option in ((json_file, "--json"), (plot_file, "--plot")):
        if path:
            require_writable(path, option)
    options["num_threads"] = options.pop("threads")
    request = EvaluationRequest(bundles, target, prompts, **options)
    terminal = StepsTerminal()
    with terminal.bar():
        found = run(request, _store(loaded), terminal)
    console = Console()
    for table in tables(found):
        console.print(table)
    for sentence in times_sentences(found):
        console.print(sentence, highlight=False)
    if json_file:
        write_output(json_file, json.dumps(found.as_json(), indent=1) + "\n")
    if plot_file:
        write_output(plot_file, plot(found))


def _store(loaded: LoadedSettings) -> ModelStore:
    return ModelStore(loaded.settings.models.cache_dir or default_root())


def _hush_transformers() -> None:
    """Its bars would come between ours."""
    from transformers.utils import logging

    transformers_logging: Any = logging
    transformers_logging.disable_progress_bar()
