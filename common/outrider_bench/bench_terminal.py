"""Tells a person at a terminal how far a run of the bench is, and what it has found so far."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from outrider_bench.lineup import BASELINE
from outrider_bench.results import Cell, Circumstances


class BenchTerminal:
    """A bar, and a line for each place of the grid that is done; see `BenchProgress`."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        # Drawn seldom: what it takes, it takes from what is measured.
        self._bar = Progress(*columns, console=Console(stderr=True), refresh_per_second=1)
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, num_steps: int) -> None:
        """See `BenchProgress`."""
        self._task = self._bar.add_task("", total=num_steps)

    def starting(self, what: str) -> None:
        """See `BenchProgress`."""
        self._bar.update(self._task, description=f"Starting: {what}")

    def measuring(self, place: Circumstances, index: int) -> None:
        """See `BenchProgress`."""
        self._bar.update(self._task, description=f"{place_in_words(place)}, round {index + 1}")

    def step(self) -> None:
        """See `BenchProgress`."""
        self._bar.advance(self._task)

    def measured(self, cells: Sequence[Cell]) -> None:
        """See `BenchProgress`."""
        self._bar.console.print(cells_in_words(cells), highlight=False, soft_wrap=True)


def place_in_words(place: Circumstances) -> str:
    """One place of the grid, in a line."""
    parts = [place.pair, f"{place.rtt_ms:g} ms"]
    if place.bandwidth_mbps is not None:
        parts.append(f"{place.bandwidth_mbps:g} Mbit/s")
    if place.sessions > 1:
        parts.append(f"{place.sessions} sessions")
    return ", ".join([*parts, f"temperature {place.temperature:g}"])


def cells_in_words(cells: Sequence[Cell]) -> str:
    """What was found in one place, in a line: the cloud's rate, and the others against it."""
    first = cells[0]
    rates = {cell.policy: cell.tokens_per_s or 0.0 for cell in cells}
    others = [
        f"{cell.policy} {cell.speedup_vs_cloud or 0.0:.2f}{' NOT EXACT' * (cell.exact is False)}"
        for cell in cells
        if cell.policy != BASELINE
    ]
    return (
        f"{place_in_words(first)}: {BASELINE} {rates[BASELINE]:.1f} tokens/s; {', '.join(others)}"
    )
