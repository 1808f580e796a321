"""What a person sees when a command fails: one sentence on standard error, and the exit status.

Knows every exception that may leave a command, and nothing of what the commands do.
"""

import os
import sys
import traceback

import click

from outrider_common.errors import InvalidInputError, MissingExtraError, OutriderError

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells report it.


def report(error: BaseException, *, debug: bool) -> int:
    """Tell the user why a command failed; with `debug` where, too.

    Returns:
        The exit status: 2 if the command was used wrongly, else 1; 130 after Ctrl-C.
    """
    if debug:
        traceback.print_exception(error)
    match error:
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED
        case BrokenPipeError():
            return FAILED
        case click.exceptions.NoArgsIsHelpError():
            error.show()
            return WRONG_USE
        case click.ClickException():
            _say(_usage_sentence(error))
            return error.exit_code
        case OutriderError():
            _say(str(error))
            wrong_use = isinstance(error, InvalidInputError | MissingExtraError)
            return WRONG_USE if wrong_use else FAILED
        case _:
            _say(
                f"unexpected {type(error).__name__}: {_first_line(error)} "
                "(this is a defect in Outrider; 'outrider --debug ...' shows where)"
            )
            return FAILED


def flush_output() -> None:
    """Write out what is buffered, so that a closed pipe is noticed here and not at exit.

    Raises:
        BrokenPipeError: nobody reads any more. Standard output leads nowhere from now on, or the
            interpreter would complain a second time at exit.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _say(sentence: str) -> None:
    click.echo(f"outrider: error: {sentence}", err=True)


def _usage_sentence(error: click.ClickException) -> str:
    sentence = error.format_message()
    context = getattr(error, "ctx", None)
    return f"{sentence} Try '{context.command_path} --help'." if context else sentence


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no message")
