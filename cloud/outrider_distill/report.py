"""An evaluation for people: tables for a terminal, and a plot of speed over the round trip.

One drafter is shown task by task, several side by side.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Final

from rich.table import Column, Table

from outrider_charts.line_chart import LineChart, Point, Series
from outrider_common.speed import SpeedUp
from outrider_distill.evaluation import ALL_TASKS, Evaluation, Judged
from outrider_distill.worth import FIRST, RESCUING_GUESSES, BlockWorth

SHOWN_CHAINS: Final = (4,)
SHOWN_TREES: Final = (8, 16)
"""Of the lengths and sizes that were counted; all of them are in the JSON."""

BEST_MARK: Final = "*"


def tables(evaluation: Evaluation) -> Iterator[Table]:
    """What was found, as tables."""
    for temperature in evaluation.request.temperatures:
        if len(evaluation.judged) > 1:
            yield _comparison(evaluation.judged, temperature)
        else:
            (judged,) = evaluation.judged
            yield _worths(judged, temperature)
            yield _speeds(judged.speeds[temperature], temperature)
        for judged in evaluation.judged:
            if block := judged.worths[temperature][ALL_TASKS].block:
                yield _blocks(judged, block, temperature)


def times_sentences(evaluation: Evaluation) -> Iterator[str]:
    """What was measured of this machine."""
    for judged in evaluation.judged:
        step_s, plain_s = judged.times.draft_s, judged.times.plain_s
        yield (
            f"A draft pass of {judged.bundle} takes {step_s * 1e3:.2f} ms, a step of the target "
            f"{plain_s * 1e3:.1f} ms: 1/{plain_s / step_s:.0f}."
        )
    times = evaluation.judged[0].times
    yield (
        f"A verification pass takes {times.pass_s * 1e3:.1f} ms and {times.row_s * 1e3:.2f} ms for "
        "each row."
    )


def plot(evaluation: Evaluation) -> str:
    """The expected speed-up over the round trip, at the first temperature, as SVG."""
    temperature = evaluation.request.temperatures[0]
    speeds = {judged.bundle: judged.speeds[temperature] for judged in evaluation.judged}
    lines = {"the cloud alone": [1.0 for _ in next(iter(speeds.values()))]}
    if len(speeds) == 1:
        lines |= _by_policy(*speeds.values())
    else:
        lines |= {name: [speed.unbranched for speed in own] for name, own in speeds.items()}
    round_trips = tuple(speed.round_trip_s * 1e3 for speed in next(iter(speeds.values())))
    what = ", ".join(speeds) if len(speeds) == 1 else "Drafters"
    chart = LineChart(
        f"{what} for {evaluation.request.target}, temperature {temperature:g}",
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


def _by_policy(speeds: Sequence[SpeedUp]) -> dict[str, list[float]]:
    return {
        "stop and wait": [speed.stop_and_wait for speed in speeds],
        "hedged chain": [speed.chain for speed in speeds],
        "hedged tree, at best": [speed.tree for speed in speeds],
    }


def _worths(judged: Judged, temperature: float) -> Table:
    table = Table(
        Column("task", no_wrap=True),
        "tokens",
        *(f"in {count}" for count in FIRST),
        *(f"chain {length}" for length in SHOWN_CHAINS),
        *(f"tree {nodes}" for nodes in SHOWN_TREES),
        title=f"Temperature {temperature:g}: how often the target's token is in the first guesses, "
        "and tokens that a pass commits",
    )
    for task, worth in judged.worths[temperature].items():
        numbers = [
            *worth.in_first.values(),
            *(worth.chain[str(length)] for length in SHOWN_CHAINS),
            *(worth.tree[str(nodes)] for nodes in SHOWN_TREES),
        ]
        table.add_row(task, str(worth.num_tokens), *(f"{number:.2f}" for number in numbers))
    return table


def _speeds(speeds: Sequence[SpeedUp], temperature: float) -> Table:
    table = Table(
        "round trip",
        "stop and wait",
        "its draft length",
        "hedged chain",
        "hedged tree, at best",
        title=f"Temperature {temperature:g}: expected tokens/s against the cloud alone",
    )
    for speed in speeds:
        table.add_row(
            f"{speed.round_trip_s * 1e3:g} ms",
            f"{speed.stop_and_wait:.2f}",
            str(speed.num_drafted),
            f"{speed.chain:.2f}",
            f"{speed.tree:.2f}",
        )
    return table


def _comparison(drafters: Sequence[Judged], temperature: float) -> Table:
    """A column for each drafter; the best rate over each round trip is marked."""
    plain = 1 / drafters[0].times.plain_s
    table = Table(
        "",
        *(Column(judged.bundle, overflow="fold") for judged in drafters),
        title=f"Temperature {temperature:g}: expected tokens/s over the round trip, without "
        f"branches; the cloud alone writes {plain:.1f}",
    )
    worths = [judged.worths[temperature][ALL_TASKS] for judged in drafters]
    table.add_row("in 1", *(f"{worth.acceptance:.2f}" for worth in worths))
    rescuing = str(RESCUING_GUESSES)
    table.add_row(f"in {rescuing}", *(f"{worth.in_first[rescuing]:.2f}" for worth in worths))
    table.add_row("pass, ms", *(f"{judged.times.draft_s * 1e3:.2f}" for judged in drafters))
    names = [f"{speed.round_trip_s * 1e3:g} ms" for speed in drafters[0].speeds[temperature]]
    rates = zip(*(_rates(judged, temperature) for judged in drafters), strict=True)
    for name, row in zip([*names, "mean"], rates, strict=True):
        best = max(row)
        table.add_row(name, *(f"{rate:.1f}{BEST_MARK * (rate == best)}" for rate in row))
    return table


def _rates(judged: Judged, temperature: float) -> list[float]:
    """Over the round trip, and their mean."""
    rates = [judged.tokens_per_s(speed) for speed in judged.speeds[temperature]]
    return [*rates, fmean(rates)]


def _blocks(judged: Judged, block: BlockWorth, temperature: float) -> Table:
    """What a drafter is worth that says several tokens a pass."""
    table = Table(
        f"Token of a pass of {judged.bundle}",
        "right",
        "right, and all before it",
        title=f"Temperature {temperature:g}: a verification pass commits "
        f"{block.tokens_per_pass:.2f} tokens of one draft pass",
    )
    for number, shares in enumerate(zip(block.shares, block.runs, strict=True), start=1):
        table.add_row(str(number), *(f"{share:.2f}" for share in shares))
    return table
