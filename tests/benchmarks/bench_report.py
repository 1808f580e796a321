"""What a run of the benchmark found, and the section of a page that says so.

Values in, Markdown out: medians, spreads, and ratios pair by pair, so that whatever slows the
machine down for a while slows both sides of a ratio. Knows nothing of models or clocks.
"""

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from outrider_common.errors import InvalidInputError

BEGIN: Final = "<!-- bench:begin -->"
"""On a page, the line above what a run of the benchmark writes."""

END: Final = "<!-- bench:end -->"
"""On a page, the line below it."""

WIDTH: Final = 130
"""Of a line of prose."""

PROGRAM: Final = "python tests/benchmarks/bench_engine.py"


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of some measurements."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of one way, measured once in each round.

    Attributes:
        label: the way that was measured.
        values: one per round, in order.
    """

    label: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ratio of two series of one table, by their labels."""

    numerator: str
    denominator: str


@dataclass(frozen=True, slots=True)
class Table:
    """One figure for several ways that were measured in turn.

    Attributes:
        measure: what the figure is.
        unit: of the figure.
        series: one per way; those that are compared have the same rounds.
        comparisons: ratios that are worth a row.
    """

    measure: str
    unit: str
    series: tuple[Series, ...]
    comparisons: tuple[Comparison, ...] = ()

    def ratios(self, comparison: Comparison) -> list[float]:
        """The ratio of each round."""
        values = {series.label: series.values for series in self.series}
        pairs = zip(values[comparison.numerator], values[comparison.denominator], strict=True)
        return [numerator / denominator for numerator, denominator in pairs]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question, and the tables that answer it.

    Attributes:
        number: as `--only` takes it.
        title: of its part of the page.
        method: what was done, in sentences.
        tables: the figures.
        notes: what a reader must know beside them, such as a way that did not run.
    """

    number: int
    title: str
    method: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured.

    Attributes:
        cpu: the model of the processor.
        num_cores: cores that the system shows.
        system: operating system and architecture.
        load_before: processes that wanted to run, averaged over the minute before.
    """

    cpu: str
    num_cores: int
    system: str
    load_before: float


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was measured, and how.

    Attributes:
        model: the target.
        is_quick: fewer rounds, shorter prompts.
        num_threads: of torch.
        seed: of everything that is drawn.
        prompt_file: where the prompts were cut from.
        prompt_lengths: tokens of each of the prompts of mixed length.
        versions: of what ran, by name.
    """

    model: str
    is_quick: bool
    num_threads: int
    seed: int
    prompt_file: str
    prompt_lengths: tuple[int, ...]
    versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    """All of one run, as it is kept in a file.

    Attributes:
        measured_at: date and time in UTC, ISO 8601.
        machine: where.
        conditions: what and how.
        experiments: in the order of their numbers.
    """

    measured_at: str
    machine: Machine
    conditions: Conditions
    experiments: tuple[Experiment, ...]

    def write(self, path: Path) -> None:
        """Keep every figure as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_RESULTS.dump_json(self, indent=2) + b"\n")

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Of a file that `write` made.

        Raises:
            InvalidInputError: there is no such file, or it holds something else.
        """
        try:
            return _RESULTS.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise InvalidInputError(
                f"'{path}' holds no results of this benchmark; make it with '{PROGRAM} --out FILE'."
            ) from error


_RESULTS: Final = TypeAdapter(Results)


def write_section(page: Path, results: Results) -> None:
    """Put the results between the markers of a page, instead of what is there.

    Raises:
        InvalidInputError: the page is not there, or does not have both markers, once each.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(
            f"The page '{page}' cannot be read; write it with the lines '{BEGIN}' and '{END}'."
        ) from error
    page.write_text(replaced_section(text, render(results)), encoding="utf-8")


def replaced_section(page: str, section: str) -> str:
    """The page with this section between its markers.

    Raises:
        InvalidInputError: the page does not have both markers, once each and in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise InvalidInputError(
            f"The page needs one line '{BEGIN}' and below it one line '{END}'; "
            "what is between them is replaced."
        )
    return f"{before}{BEGIN}\n\n{section.strip()}\n\n{END}{after}"


def render(results: Results) -> str:
    """The section: conditions first, then each experiment."""
    lines = [*_conditions(results)]
    for experiment in results.experiments:
        lines += ["", *_experiment(experiment, results.conditions)]
    return "\n".join(lines)


def command_of(experiment: Experiment, conditions: Conditions) -> str:
    """The command that measures an experiment in the same way again."""
    quick = " --quick" if conditions.is_quick else ""
    return f"{PROGRAM} --only {experiment.number} --threads {conditions.num_threads}{quick}"


def _conditions(results: Results) -> Iterator[str]:
    machine, conditions = results.machine, results.conditions
    versions = ", ".join(f"{name} {number}" for name, number in conditions.versions.items())
    yield f"Measured {results.measured_at} with {conditions.model} in fp32 on the CPU."
    yield ""
    yield _item(
        f"Machine: {machine.cpu}, {machine.num_cores} cores, {machine.system}; load average "
        f"{machine.load_before:.1f} before the run."
    )
    yield _item(f"Threads of torch: {conditions.num_threads}. {versions}.")
    yield _item(f"Prompts: cut from `{conditions.prompt_file}`.")
    if conditions.is_quick:
        yield ""
        yield "This was a quick run: few rounds and short prompts. Take it as a smoke test."


def _experiment(experiment: Experiment, conditions: Conditions) -> Iterator[str]:
    yield f"### {experiment.number}. {experiment.title}"
    yield ""
    yield textwrap.fill(experiment.method, WIDTH)
    for table in experiment.tables:
        yield ""
        yield from table_lines(table)
    yield ""
    yield from map(_item, experiment.notes)
    if experiment.notes:
        yield ""
    yield f"`{command_of(experiment, conditions)}`"


def table_lines(table: Table) -> Iterator[str]:
    """A table: one row for each series and one for each comparison."""
    yield f"{table.measure}:"
    yield ""
    yield "| way | median | smallest to largest | rounds |"
    yield "|---|---|---|---|"
    yield from _rows(table)


def _item(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="- ", subsequent_indent="  ")


def _rows(table: Table) -> Iterator[str]:
    for series in table.series:
        yield _row(series.label, series.values, f" {table.unit}".rstrip())
    for comparison in table.comparisons:
        label = f"**{comparison.numerator} / {comparison.denominator}**"
        yield _row(label, table.ratios(comparison), "×")


def _row(label: str, values: Sequence[float], unit: str) -> str:
    spread = Spread.of(values)
    ends = f"{_short(spread.smallest)} to {_short(spread.largest)}"
    return f"| {label} | {_short(spread.median)}{unit} | {ends} | {len(values)} |"


def _short(value: float) -> str:
    """Three digits that count, and never an exponent."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
