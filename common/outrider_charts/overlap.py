"""How much of a time drafter and verifier were at work, and both at once. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrider_common.generation_trace import GenerationTrace

Interval = tuple[float, float]
"""From when to when."""


@dataclass(frozen=True, slots=True)
class Busyness:
    """Shares of a span of time.

    Attributes:
        drafting: in which the drafter was at work.
        verifying: in which a pass of this generation was, by estimate.
        both: in which both were.
    """

    drafting: float
    verifying: float
    both: float


def busyness(trace: GenerationTrace, begin_s: float, end_s: float) -> Busyness:
    """Of a part of a trace; all 0 for no time at all."""
    window = [(begin_s, end_s)]
    window = [(begin_s, end_s)]
    drafting = common(union((d.began_s, d.ended_s) for d in trace.drafts), window)
    passes = union((trace.pass_began_s(c), trace.pass_ended_s(c)) for c in trace.passes)
    verifying = common(passes, window)
    whole = max(end_s - begin_s, 1e-9)
    return Busyness(
        drafting=length(drafting) / whole,
        verifying=length(verifying) / whole,
        both=length(common(drafting, verifying)) / whole,
    )


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same time, in intervals that do not overlap, in order."""
    merged: list[Interval] = []
    for begin, end in sorted(intervals):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((begin, end))
    return merged


def common(some: Sequence[Interval], others: Sequence[Interval]) -> list[Interval]:
    """The time that is in both; each of them in order and without overlaps."""
    found: list[Interval] = []
    i = j = 0
    while i < len(some) and j < len(others):
        begin = max(some[i][0], others[j][0])
        end = min(some[i][1], others[j][1])
        if begin < end:
            found.append((begin, end))
        if some[i][1] <= others[j][1]:
            i += 1
        else:
            j += 1
    return found


def length(intervals: Iterable[Interval]) -> float:
    """Of all intervals together."""
    return sum(end - begin for begin, end in intervals)
