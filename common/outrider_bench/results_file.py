"""The file of a run: read, replaced as a whole after every round, and gone on with."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from outrider_bench.grid import places
from outrider_bench.results import (
    VERSION,
    BenchResults,
    Cell,
    Circumstances,
    Machine,
    Request,
    Round,
    results_from_json,
)
from outrider_bench.summary import cells_of
from outrider_common.errors import ConfigError

_AGAIN: Final = "ask for the same, or begin another file with --out"


def read_results(path: Path) -> BenchResults:
    """Read a file of results.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {path}; 'outrider bench run' writes one.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as JSON ({error}); give a file of 'outrider bench run'."
        ) from error
    return results_from_json(document, str(path))


def write_results(path: Path, results: BenchResults) -> None:
    """Replace the file: whoever reads it sees the old one or the new one.

    Raises:
        ConfigError: it cannot be written.
    """
    incoming = path.with_name(f".{path.name}.incoming")
    try:
        incoming.write_text(json.dumps(results.as_json(), indent=1) + "\n", encoding="utf-8")
        incoming.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error}); choose another --out.") from error


class Ledger:
    """The rounds that are there and those that are missing, in a file at all times.

    Args:
        path: of the file.
        results: what is there.
    """

    def __init__(self, path: Path, results: BenchResults) -> None:
        self._path = path
        self._results = results

    @property
    def results(self) -> BenchResults:
        """What is there."""
        return self._results

    def missing(self, place: Circumstances) -> range:
        """Indices of the rounds that are yet to be measured in a place."""
        return range(len(self._rounds(place)), self._results.request.rounds)

    def known_blocks(self, place: Circumstances) -> Mapping[str, int]:
        """The lengths of blocks that were chosen in a place before."""
        there = self._rounds(place)
        return there[-1].block_nodes if there else {}

    def add(self, measured: Round) -> tuple[Cell, ...]:
        """Keep one more round.

        Returns:
            The cells of its place.
        """
        rounds = (*self._results.rounds, measured)
        num_rounds = len(places(self._results.request)) * self._results.request.rounds
        self._results = replace(
            self._results,
            rounds=rounds,
            cells=cells_of(rounds),
            finished=len(rounds) == num_rounds,
        )
        write_results(self._path, self._results)
        return cells_of(self._rounds(measured.circumstances))

    def _rounds(self, place: Circumstances) -> list[Round]:
        return [each for each in self._results.rounds if each.circumstances == place]


def open_ledger(
    path: Path, request: Request, machine: Machine, *, resume: bool, force: bool
) -> Ledger:
    """Begin a file, or go on with one.

    Args:
        path: of the file.
        request: what is asked for.
        machine: where.
        resume: go on with the file, if it is there.
        force: begin it anew even where it is there.

    Raises:
        ConfigError: it is there and neither is said, it cannot be written, or it was begun with
            another request or on another machine.
    """
    if resume and path.exists():
        found = read_results(path)
        refuse_others(path, found, request, machine)
        return Ledger(path, found)
    if path.exists() and not force:
        raise ConfigError(
            f"{path} is there already; go on with it by --resume, begin it anew by --force, or "
            "choose another --out."
        )
    measured_at = datetime.now(UTC).isoformat(timespec="seconds")
    results = BenchResults(
        version=VERSION, measured_at=measured_at, finished=False, machine=machine, request=request
    )
    write_results(path, results)
    return Ledger(path, results)


def refuse_others(path: Path, found: BenchResults, request: Request, machine: Machine) -> None:
    """Refuse to go on with a file of another request or another machine.

    Raises:
        ConfigError: naming the first difference.
    """
    for field in fields(Request):
        before, now = getattr(found.request, field.name), getattr(request, field.name)
        if before != now:
            raise ConfigError(
                f"{path} was begun with {field.name} {_shown(before)}, and now it is "
                f"{_shown(now)}; {_AGAIN}."
            )
    if found.machine.software != machine.software:
        raise ConfigError(f"{path} was begun with other assistants for Transformers; {_AGAIN}.")
    if found.machine.verifier_settings != machine.verifier_settings:
        raise ConfigError(
            f"{path} was begun with {_shown(found.machine.verifier_settings)} in the environment, "
            f"and now it is {_shown(machine.verifier_settings)}; {_AGAIN}."
        )
    if found.machine.cpu != machine.cpu or found.machine.versions != machine.versions:
        raise ConfigError(
            f"{path} was begun on another machine or with other versions ({found.machine.cpu}); "
            "begin another file with --out."
        )


def _shown(value: object) -> str:
    return json.dumps(value)
