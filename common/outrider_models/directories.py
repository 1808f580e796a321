"""Fills a directory so that nobody ever sees a part of it."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

from outrider_common.errors import UnavailableError


def fill_directory(final: Path, fill: Callable[[Path], None], *, resumable: bool = False) -> None:
    """Make or replace a directory: filled beside its place, then renamed.

    One process at a time: lock it if there may be others.

    Args:
        final: where the directory will be; its parent exists.
        fill: writes the files into the directory that it is given.
        resumable: keep what `fill` wrote before it failed, for the next attempt to find.

    Raises:
        UnavailableError: the disk is full.
    """
    incoming = final.with_name(f".{final.name}.incoming")
    if not resumable:
        shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(exist_ok=True)
    try:
        fill(incoming)
    except BaseException as error:
        if not resumable:
            shutil.rmtree(incoming, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnavailableError(
                f"The disk of '{final.parent}' is full; free some room and give the same command "
                "again."
            ) from error
        raise
    _let_all_read(incoming)
    _swap_in(incoming, final)


def _let_all_read(directory: Path) -> None:
    """Some libraries write files for the owner only; whoever may see the store may read it."""
    for path in directory.rglob("*"):
        if path.is_file():
            path.chmod(0o644)


def _swap_in(incoming: Path, final: Path) -> None:
    """Put a complete directory into its place, and drop what was there."""
    outgoing = final.with_name(f".{final.name}.outgoing")
    shutil.rmtree(outgoing, ignore_errors=True)
    if final.exists():
        final.rename(outgoing)
    incoming.rename(final)
    shutil.rmtree(outgoing, ignore_errors=True)
