"""How much of a time drafter and verifier were at work at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_charts.overlap import busyness, common, length, union
from outrider_common.generation_trace import DraftSpan, GenerationTrace, PassTrace

instants = st.integers(0, 30)
intervals = st.lists(st.tuples(instants, instants).map(lambda p: (min(p), max(p))), max_size=6)


def covered(some: list[tuple[int, int]]) -> set[int]:
    return {second for begin, end in some for second in range(begin, end)}


@given(some=intervals, others=intervals)
def test_shares_are_those_of_a_plain_count_second_by_second(
    some: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    assert length(union(some)) == len(covered(some))
    both = common(union(some), union(others))
    assert length(both) == len(covered(some) & covered(others))


def test_drafting_and_verifying_at_once_are_counted_within_the_window() -> None:
    commit = PassTrace(4.5, 1, (7,), ("x",), 0, False, pass_s=2.0, queue_s=0.0, num_rows=1)
    trace = GenerationTrace(
        "t", "d", 0.0, 1.0, drafts=(DraftSpan(0.0, 3.0, 1, 1),), passes=(commit,)
    )
    busy = busyness(trace, 1.0, 5.0)  # drafting 1 to 3, the pass 2 to 4
    assert (busy.drafting, busy.verifying) == (pytest.approx(0.5), pytest.approx(0.5))
    assert busy.both == pytest.approx(0.25)
