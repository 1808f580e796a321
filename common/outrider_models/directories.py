"""Fills a directory so that nobody ever sees a part of it."""

import shutil
from collections.abc import Callable
from pathlib import Path


def fill_directory(final: Path, fill: Callable[[Path], None], *, resumable: bool = False) -> None:
    """Make or replace a directory: filled beside its place, then renamed.

    One process at a time: lock it if there may be others.

    Args:
        final: where the directory will be; its parent exists.
        fill: writes the files into the directory that it is given.
        resumable: keep what `fill` wrote before it failed, for the next attempt to find.
    """
    incoming = final.with_name(f".{final.name}.incoming")
    if not resumable:
        shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(exist_ok=True)
    try:
        fill(incoming)
    except BaseException:
        if not resumable:
            shutil.rmtree(incoming, ignore_errors=True)
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
