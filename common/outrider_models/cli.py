"""The commands `outrider models ...`: pull, export, list, verify, path. Thin: parses and prints."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from outrider_common.cli_options import settings_options
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import ModelFileError
from outrider_common.settings.models import ModelSettings
from outrider_distill.cli import assemble, distill, evaluate
from outrider_models.bundle import Bundle
from outrider_models.exporting import ExportRequest, export
from outrider_models.pull import pull
from outrider_models.store import Entry, Kind, ModelStore, default_root, verify_checksums
from outrider_models.terminal import Terminal

_SCHEMES = ("none", "int8", "int4", "int4-offset")  # as outrider_export.Scheme, which needs torch
_FORCE_HELP = "Make it anew, even if it is there already."


def _store(loaded: LoadedSettings) -> ModelStore:
    return ModelStore(loaded.settings.models.cache_dir or default_root())


@click.group(name="models")
def models() -> None:
    """Pull target models, export drafter bundles, and look after both."""


@models.command(name="pull")
@click.argument("reference")
@click.option("--force", is_flag=True, help=_FORCE_HELP)
@settings_options(ModelSettings)
def pull_command(reference: str, force: bool, loaded: LoadedSettings) -> None:
    """Fetch a model: a short name such as smollm2-135m, or hf:organisation/name[@revision]."""
    terminal = Terminal()
    terminal.conclude(pull(reference, _store(loaded), terminal, force=force))


@models.command(name="export")
@click.argument("model")
@click.option(
    "--quantisation",
    type=click.Choice(_SCHEMES),
    default="int8",
    show_default=True,
    help="How to store the weights.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write here, not into the store.")
@click.option("--name", help="The bundle's name; default: MODEL-QUANTISATION[-topN].")
@click.option("--max-positions", type=click.IntRange(min=16), help="Limit the sequence length.")
@click.option(
    "--draft-vocabulary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Draft only from the N most frequent tokens: faster steps, a few guesses less.",
)
@click.option(
    "--draft-text",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Count tokens in this text; default: the lowest ids are taken for the most frequent.",
)
@click.option(
    "--kv-bits",
    type=click.Choice(["8", "32"]),
    default="32",
    show_default=True,
    help="Bits of the KV cache: with 8 long texts take a quarter of the memory.",
)
@click.option("--force", is_flag=True, help=_FORCE_HELP)
@settings_options(ModelSettings)
def export_command(
    model: str,
    quantisation: str,
    out: Path | None,
    name: str | None,
    max_positions: int | None,
    draft_vocabulary: int | None,
    draft_text: Path | None,
    kv_bits: str,
    force: bool,
    loaded: LoadedSettings,
) -> None:
    """Make a drafter bundle of MODEL: a name in the store, hf:organisation/name, or a directory."""
    terminal = Terminal()
    request = ExportRequest(
        model=model,
        quantisation=quantisation,
        name=name,
        max_positions=max_positions,
        draft_vocabulary=draft_vocabulary,
        draft_text=draft_text,
        kv_bits=int(kv_bits),
    )
    store = _store(loaded)
    terminal.conclude(export(request, store, terminal, out=out, force=force))


@models.command(name="list")
@settings_options(ModelSettings)
def list_command(loaded: LoadedSettings) -> None:
    """Show the models and bundles in the store."""
    table = Table("kind", "name", "size", Column("path", overflow="fold"))
    for entry in _store(loaded).entries():
        size = f"{entry.size / 1e6:.0f} MB"
        table.add_row(entry.kind.noun, entry.name, size, str(entry.path))
    Console().print(table)


@models.command(name="verify")
@click.argument("names", nargs=-1)
@settings_options(ModelSettings)
def verify_command(names: tuple[str, ...], loaded: LoadedSettings) -> None:
    """Check every file of the named models and bundles, or of all in the store."""
    store = _store(loaded)
    wanted = [store.find(name) for name in names] if names else store.entries()
    faults = [fault for entry in wanted if (fault := _fault(entry))]
    if faults:
        raise ModelFileError(" ".join(faults))


def _fault(entry: Entry) -> str | None:
    """Check one entry and print that it is whole, or return what is wrong with it."""
    try:
        if entry.kind is Kind.BUNDLE:
            Bundle.load(entry.path, verify=True)
        else:
            verify_checksums(entry.path, contents=True)
    except ModelFileError as error:
        return str(error)
    click.echo(f"{entry.name}: ok")
    return None


@models.command(name="path")
@click.argument("name")
@settings_options(ModelSettings)
def path_command(name: str, loaded: LoadedSettings) -> None:
    """Print where a model or bundle of the store is."""
    click.echo(_store(loaded).find(name).path)


models.add_command(distill)
models.add_command(assemble)
models.add_command(evaluate)
