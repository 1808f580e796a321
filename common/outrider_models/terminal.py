"""Tells a person at a terminal what the commands of the model store are doing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Terminal:
    """Shows what is being done; remembers whether anything was."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._told = False

    @contextmanager
    def stage(self, description: str, *, has_own_bar: bool = False) -> Iterator[None]:
        """See `Progress.stage`."""
        self._told = True
        if has_own_bar:
            self.console.print(f"{description} ...")
            yield
        else:
            with self._bar() as bar:
                bar.add_task(f"{description} ...", total=None)
                yield
        self.console.print(f"[green]✓[/green] {description}")

    def _bar(self) -> Progress:
        """A bar that moves while nobody knows how far the work is, and the time it has taken."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console, transient=True)

    def conclude(self, path: Path) -> None:
        """Print where the result is; say so if nothing had to be done for it."""
        if not self._told:
            self.console.print("It is there already.")
        click.echo(path)
