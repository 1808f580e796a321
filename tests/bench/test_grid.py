"""Places of the grid, batches, turns, and prompts spread over tasks."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import REQUEST

from outrider_bench.grid import (
    batches,
    check_request,
    in_turn,
    num_prompts_at,
    places,
    spread_over_tasks,
)
from outrider_common.errors import ConfigError


def test_the_grid_is_every_combination_and_the_round_trip_changes_most_often() -> None:
    request = replace(
        REQUEST, pairs=("a", "b"), temperatures=(0.0, 1.0), bandwidth_mbps=(None, 1.0)
    )
    grid = places(request)
    assert len(grid) == len(set(grid)) == 2 * 2 * 2 * 2
    assert [place.rtt_ms for place in grid[:4]] == [0, 50, 0, 50]
    assert [place.pair for place in grid] == ["a"] * 8 + ["b"] * 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rtt_ms": ()}, "The grid has no round-trip time"),
        ({"pairs": ()}, "The grid has no drafter bundle"),
        ({"policies": ()}, "The grid has no policy"),
        ({"temperatures": (0.0, 0.0)}, "The grid has a temperature twice"),
        ({"sessions": ()}, "The grid has no number of sessions"),
    ],
)
def test_a_grid_that_cannot_be_measured_is_refused(changes: dict[str, Any], said: str) -> None:
    check_request(REQUEST)
    with pytest.raises(ConfigError, match=said):
        check_request(replace(REQUEST, **changes))


def test_every_session_has_a_prompt_of_its_own() -> None:
    request = replace(REQUEST, num_prompts=4)
    assert [num_prompts_at(request, sessions) for sessions in (1, 4, 9)] == [4, 4, 9]


@given(num_items=st.integers(1, 30), size=st.integers(1, 30))
def test_batches_are_of_one_size_and_hold_everything(num_items: int, size: int) -> None:
    items = range(num_items)
    cut = batches(items, min(size, num_items))
    assert {len(batch) for batch in cut} == {min(size, num_items)}
    assert set().union(*cut) == set(items)
    assert all(len(set(batch)) == len(batch) for batch in cut)  # never a prompt beside itself
    assert len(cut) == -(-num_items // min(size, num_items))


@given(num_items=st.integers(1, 10), turn=st.integers(0, 100))
def test_in_as_many_turns_everybody_is_once_in_every_place(num_items: int, turn: int) -> None:
    turns = [list(in_turn(range(num_items), turn + i)) for i in range(num_items)]
    for place in range(num_items):
        assert {order[place] for order in turns} == set(range(num_items))


@given(st.data())
def test_prompts_are_as_many_of_each_task_as_there_can_be(data: st.DataObject) -> None:
    tasks = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
    wanted = data.draw(st.integers(1, len(tasks)))
    chosen = spread_over_tasks(tasks, wanted)
    assert len(set(chosen)) == len(chosen) == wanted
    counts, there = Counter(tasks[i] for i in chosen), Counter(tasks)
    for task in there:
        if counts[task] < there[task]:  # not all of it: then nobody has two more
            assert max(counts.values()) <= counts[task] + 1


def test_the_first_prompts_are_of_different_tasks() -> None:
    tasks = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    chosen = spread_over_tasks(tasks, 6)
    assert [tasks[i] for i in chosen] == ["a", "b", "c"] * 2
    assert chosen == [0, 10, 20, 5, 15, 25]


def test_more_prompts_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 prompts are wanted, but the file has 2"):
        spread_over_tasks(["a", "b"], 3)
