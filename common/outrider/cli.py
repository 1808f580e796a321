"""The `outrider` command: finds its sub-commands, runs one, and turns errors into sentences.

Sub-commands come from the entry point group `outrider.commands`; the extra behind an entry point,
as in `outrider_cloud.cli:verifier [cloud]`, is what must be installed for it. Knows nothing of
what they do, and imports none that is not needed.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Final

import click

from outrider import console
from outrider_common.cli_options import config_option
from outrider_common.errors import MissingExtraError

COMMAND_GROUP: Final = "outrider.commands"

MODULES_OF_EXTRA: Final = {
    "edge": ("onnxruntime", "prompt_toolkit", "starlette", "tokenizers"),
    "cloud": ("torch", "transformers"),
    "export": ("gguf", "onnx", "torch", "transformers"),
    "mqtt": ("aiomqtt", "cryptography"),
}
"""The modules by which one sees, without importing them, that an extra is installed."""


@dataclass(slots=True)
class Invocation:
    """What is remembered of one run of the command after it has failed."""

    debug: bool = False


class CommandGroup(click.Group):
    """A group whose commands are entry points; lists those apart whose extra is not installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands that can run here."""
        return [name for name, entry in _entries().items() if not _missing_extras(entry)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; for one that cannot run, a command that says what to do."""
        entry = _entries().get(cmd_name)
        if entry is None:
            return None
        if missing := _missing_extras(entry):
            return _stand_in(cmd_name, _missing_extra_error(cmd_name, missing))
        try:
            command: click.Command = entry.load()
        except ImportError as error:  # The others still run.
            return _stand_in(cmd_name, error)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, then the list of those that are not installed."""
        super().format_commands(ctx, formatter)
        absent = [
            (name, _remedy(missing))
            for name, entry in _entries().items()
            if (missing := _missing_extras(entry))
        ]
        if absent:
            with formatter.section("Not installed"):
                formatter.write_dl(absent)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="outrider", message="%(prog)s %(version)s")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@config_option
@click.make_pass_decorator(Invocation, ensure=True)
def root(invocation: Invocation, debug: bool) -> None:
    """Drafted on the device, verified in the cloud: exactly the target model's text."""
    invocation.debug |= debug


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line `arguments`, those of the process if None.

    Returns:
        The exit status. Errors have been reported by then.
    """
    invocation = Invocation(debug=os.environ.get("OUTRIDER_LOG_LEVEL", "").lower() == "debug")
    try:
        status = root.main(arguments, prog_name="outrider", standalone_mode=False, obj=invocation)
        console.flush_output()
    except (Exception, KeyboardInterrupt) as error:
        return console.report(error, debug=invocation.debug)
    return status if isinstance(status, int) else 0


def main() -> None:
    """The entry point of the installed `outrider` script."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # gRPC's own notes are not for users
    sys.exit(run())


def _entries() -> dict[str, EntryPoint]:
    found = entry_points(group=COMMAND_GROUP)
    return {entry.name: entry for entry in sorted(found, key=lambda entry: entry.name)}


def _missing_extras(entry: EntryPoint) -> list[str]:
    return [
        extra
        for extra in entry.extras
        if any(find_spec(module) is None for module in MODULES_OF_EXTRA.get(extra, ()))
    ]


def _remedy(missing: Sequence[str]) -> str:
    return f"pip install 'outrider[{','.join(missing)}]'"


def _missing_extra_error(name: str, missing: Sequence[str]) -> MissingExtraError:
    return MissingExtraError(
        f"'outrider {name}' needs the extra {' and '.join(missing)}, which is not installed: "
        f"run {_remedy(missing)}."
    )


def _stand_in(name: str, error: Exception) -> click.Command:
    """A command that takes any arguments and raises `error`, why the real one cannot run."""

    def fail(arguments: tuple[str, ...]) -> None:
        raise error

    return click.Command(
        name,
        callback=fail,
        short_help=f"Cannot be loaded: {error}",
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
    )
