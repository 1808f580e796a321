"""`outrider fleet`: see and steer many edge daemons over MQTT."""

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from google.protobuf import json_format
from rich.console import Console

from outrider.v1 import fleet_pb2 as pb
from outrider_common.cli_options import settings_options
from outrider_common.config import Settings
from outrider_common.config_loading import LoadedSettings
from outrider_common.errors import InvalidInputError, InvalidPromptError, error_from_wire
from outrider_common.settings.fleet import FleetSettings
from outrider_edge.fleet import operations
from outrider_edge.fleet.devices import Device, chosen
from outrider_edge.fleet.fleet_tables import WIDTH, table_of_devices
from outrider_edge.fleet.offering import signed_offer
from outrider_edge.fleet.operations import OnProgress, Outcome
from outrider_edge.fleet.operator_link import OperatorLink, operator_link
from outrider_edge.fleet.signatures import make_private_key, public_key_of, read_private_key
from outrider_edge.fleet.topics import Topics
from outrider_edge.overlay import Overlay

_Command = TypeVar("_Command", bound=Callable[..., Any])


class ChangeError(InvalidInputError):
    """A change of settings that is not written as NAME=VALUE."""

    reason = "INVALID_CHANGE"


@click.group(name="fleet")
def fleet() -> None:
    """See and steer many edge daemons over MQTT."""


def _devices_options(command: _Command) -> _Command:
    many = click.option("--device", "names", multiple=True, metavar="NAME", help="Repeatable.")
    every = click.option("--all", "is_all", is_flag=True, help="All devices.")
    return many(every(command))


def _timeout_option(default: float) -> Callable[[_Command], _Command]:
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=1),
        default=default,
        show_default=True,
        help="Seconds to wait.",
    )


_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


@fleet.command()
@_json_option
@settings_options(FleetSettings)
def status(as_json: bool, loaded: LoadedSettings) -> None:
    """List the devices: which are alive, what they run, and how well."""

    async def work() -> list[Device]:
        async with _operator(loaded) as (link, topics):
            return list((await operations.look(link, topics)).values())

    devices = asyncio.run(work())
    if as_json:
        click.echo(json.dumps([device.as_json() for device in devices], indent=2))
    else:
        width = None if sys.stdout.isatty() else WIDTH
        Console(width=width).print(table_of_devices(devices))


@fleet.command(name="set")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE...")
@_devices_options
@_timeout_option(30.0)
@_json_option
@settings_options(FleetSettings)
@click.pass_context
def set_(
    context: click.Context,
    changes: tuple[str, ...],
    names: tuple[str, ...],
    is_all: bool,
    timeout_s: float,
    as_json: bool,
    loaded: LoadedSettings,
) -> None:
    """Set settings of devices, such as sampling.max_tokens=64; NAME= takes one back.

    A device that is away finds the wish when it is back.
    """
    wanted = _changes(changes)

    async def work() -> list[Outcome]:
        async with _operator(loaded) as (link, topics):
            devices = chosen(await operations.look(link, topics), names, is_all=is_all)
            return await operations.set_settings(
                link, topics, devices, wanted, timeout_s, _progress(as_json)
            )

    _end_with(context, asyncio.run(work()), as_json)


@fleet.command()
@click.argument("archive", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="What the drafter is called.")
@click.option("--uri", help="Where devices find it. [default: the file itself, as file://]")
@click.option(
    "--key",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    metavar="FILE",
    help="The private key, as 'outrider fleet key' makes it.",
)
@click.option(
    "--percent",
    type=click.FloatRange(0, 100, min_open=True),
    default=20.0,
    show_default=True,
    help="Devices that are asked at a time.",
)
@click.option(
    "--trial-tokens",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="Tokens over which old and new are compared.",
)
@click.option(
    "--margin",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="By how much the acceptance may be worse.",
)
@_devices_options
@_timeout_option(3600.0)
@_json_option
@settings_options(FleetSettings)
@click.pass_context
def rollout(
    context: click.Context,
    archive: Path,
    name: str,
    uri: str | None,
    key: Path,
    percent: float,
    trial_tokens: int,
    margin: float,
    names: tuple[str, ...],
    is_all: bool,
    timeout_s: float,
    as_json: bool,
    loaded: LoadedSettings,
) -> None:
    """Roll out the drafter bundle in ARCHIVE, a .tar, to some devices at a time.

    Each device tries it against the drafter that it has and keeps the better one; as soon as one
    fails, no more are asked. Devices that are away are left out.
    """
    place = uri or archive.absolute().as_uri()
    wish = signed_offer(archive, name, place, key, trial_tokens, margin)

    async def work() -> list[Outcome]:
        async with _operator(loaded) as (link, topics):
            devices = chosen(await operations.look(link, topics), names, is_all=is_all)
            alive = [device for device in devices if device.is_alive]
            return await operations.roll_out(
                link, topics, alive, wish, percent, timeout_s, _progress(as_json)
            )

    _end_with(context, asyncio.run(work()), as_json)


@fleet.command()
@click.argument("device")
@click.argument("prompt")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is, without the chat template.")
@click.option("--max-tokens", type=click.IntRange(1, 2**32 - 1), help="Of the answer at most.")
@click.option("--temperature", type=click.FloatRange(0), help="Randomness.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Of the noise.")
@_timeout_option(120.0)
@_json_option
@settings_options(FleetSettings)
def run(
    device: str,
    prompt: str,
    raw: bool,
    max_tokens: int | None,
    temperature: float | None,
    seed: int | None,
    timeout_s: float,
    as_json: bool,
    loaded: LoadedSettings,
) -> None:
    """Have PROMPT answered on DEVICE."""
    if not prompt.strip():
        raise InvalidPromptError("The prompt is empty; say what to answer.")
    job = pb.Job(
        job_id=secrets.token_hex(16), max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    if raw:
        job.prompt = prompt
    else:
        job.messages.add(role="user", content=prompt)

    async def work() -> pb.JobResult:
        async with _operator(loaded) as (link, topics):
            return await operations.run_job(link, topics, device, job, timeout_s)

    result = asyncio.run(work())
    _raise_if_failed(result.error)
    click.echo(json_format.MessageToJson(result) if as_json else result.text)


@fleet.command()
@click.argument("order", type=click.Choice(["drain", "undrain", "probe", "log-level"]))
@click.argument("devices", nargs=-1, required=True, metavar="DEVICE...")
@click.option("--level", default="info", show_default=True, help="For log-level.")
@_timeout_option(15.0)
@settings_options(FleetSettings)
def tell(
    order: str, devices: tuple[str, ...], level: str, timeout_s: float, loaded: LoadedSettings
) -> None:
    """Tell devices to take no more requests, to take them again, to probe, or what to log."""
    wanted = pb.Command()
    if order == "log-level":
        wanted.set_log_level.level = level
    else:
        getattr(wanted, order).SetInParent()

    async def work() -> None:
        async with _operator(loaded) as (link, topics):
            for device in devices:
                result = await operations.command(link, topics, device, wanted, timeout_s)
                _raise_if_failed(result.error)
                said = json_format.MessageToDict(result.probe) if order == "probe" else "done"
                click.echo(f"{device}: {json.dumps(said) if order == 'probe' else said}")

    asyncio.run(work())


@fleet.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def key(file: Path) -> None:
    """Print the public half of the private key in FILE, which is made if it is not there."""
    private = read_private_key(file) if file.exists() else make_private_key(file)
    click.echo(public_key_of(private))


@asynccontextmanager
async def _operator(loaded: LoadedSettings) -> AsyncIterator[tuple[OperatorLink, Topics]]:
    topics = Topics(loaded.settings.fleet.topic_prefix)
    async with operator_link(loaded.settings.fleet, topics) as link:
        yield link, topics


def _changes(words: Sequence[str]) -> Mapping[str, str | None]:
    """What is to be set, and what is taken back (None); checked as a device would."""
    changes: dict[str, str | None] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise ChangeError(f"{word!r} is no change of a setting; write NAME=VALUE.")
        changes[name] = value or None
    given = {name: value for name, value in changes.items() if value is not None}
    Overlay(given).on(Settings())
    return changes


def _progress(as_json: bool) -> OnProgress:
    """Says what happens while it happens; with JSON, on standard error."""

    def say(device: str, sentence: str) -> None:
        click.echo(f"{device}: {sentence}", err=as_json)

    return say


def _end_with(context: click.Context, outcomes: Sequence[Outcome], as_json: bool) -> None:
    """Say how it ended; status 1 if it is not everywhere as it was wished."""
    num_good = sum(outcome.is_good for outcome in outcomes)
    if as_json:
        click.echo(json.dumps([outcome.as_json() for outcome in outcomes], indent=2))
    else:
        click.echo(f"{num_good} of {len(outcomes)} devices are as wished.")
        for outcome in outcomes:
            if not outcome.is_good:
                click.echo(f"  {outcome.device}: {outcome.sentence}")
    if num_good < len(outcomes) or not outcomes:
        context.exit(1)


def _raise_if_failed(error: pb.FleetError) -> None:
    """What a device says went wrong, as an error of ours."""
    if error.reason:
        raise error_from_wire(error.reason, error.message)
