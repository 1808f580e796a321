"""An evaluation for people: tables for a terminal, and a plot of speed over the round trip."""

from typing import Final

from rich.table import Column, Table

from outrider_charts.line_chart import LineChart, Point, Series
from outrider_distill.evaluation import FIRST, Evaluation

SHOWN_CHAINS: Final = (4,)
SHOWN_TREES: Final = (8, 16)
"""Of the lengths and sizes that were counted; all of them are in the JSON."""


def tables(evaluation: Evaluation) -> list[Table]:
    """What was found, as tables."""
    return [
        table
        for temperature in evaluation.worths
        for table in (_worths(evaluation, temperature), _speeds(evaluation, temperature))
    ]


def times_sentence(evaluation: Evaluation) -> str:
    """What was measured of this machine."""
    times = evaluation.times
    return (
        f"A draft step takes {times.draft_s * 1e3:.2f} ms, a step of the target "
        f"{times.plain_s * 1e3:.1f} ms: 1/{times.plain_s / times.draft_s:.0f}; a verification "
        f"pass {times.pass_s * 1e3:.1f} ms and {times.row_s * 1e3:.2f} ms for each row."
    )


def plot(evaluation: Evaluation) -> str:
    """The expected speed-up over the round trip, at the first temperature, as SVG."""
    temperature, speeds = next(iter(evaluation.speeds.items()))
    lines = {
        "the cloud alone": [1.0 for _ in speeds],
        "stop and wait": [speed.stop_and_wait for speed in speeds],
        "hedged chain": [speed.chain for speed in speeds],
        "hedged tree, at best": [speed.tree for speed in speeds],
    }
    round_trips = tuple(speed.round_trip_s * 1e3 for speed in speeds)
    chart = LineChart(
        f"{evaluation.request.bundle} for {evaluation.request.target}, temperature {temperature:g}",
        x_label="round trip, ms",
        y_label="tokens/s against the cloud alone",
        x_ticks=round_trips,
        series=tuple(
            Series(name, tuple(map(Point, round_trips, values)), look)
            for look, (name, values) in enumerate(lines.items())
        ),
        is_root=True,
    )
    return chart.svg()


def _worths(evaluation: Evaluation, temperature: float) -> Table:
    table = Table(
        Column("task", no_wrap=True),
        "tokens",
        *(f"in {count}" for count in FIRST),
        *(f"chain {length}" for length in SHOWN_CHAINS),
        *(f"tree {nodes}" for nodes in SHOWN_TREES),
        title=f"Temperature {temperature:g}: how often the target's token is in the first guesses, "
        "and tokens that a pass commits",
    )
    for task, worth in evaluation.worths[temperature].items():
        numbers = [
            *worth.in_first.values(),
            *(worth.chain[str(length)] for length in SHOWN_CHAINS),
            *(worth.tree[str(nodes)] for nodes in SHOWN_TREES),
        ]
        table.add_row(task, str(worth.num_tokens), *(f"{number:.2f}" for number in numbers))
    return table


def _speeds(evaluation: Evaluation, temperature: float) -> Table:
    table = Table(
        "round trip",
        "stop and wait",
        "its draft length",
        "hedged chain",
        "hedged tree, at best",
        title=f"Temperature {temperature:g}: expected tokens/s against the cloud alone",
    )
    for speed in evaluation.speeds[temperature]:
        table.add_row(
            f"{speed.round_trip_s * 1e3:g} ms",
            f"{speed.stop_and_wait:.2f}",
            str(speed.num_drafted),
            f"{speed.chain:.2f}",
            f"{speed.tree:.2f}",
        )
    return table
