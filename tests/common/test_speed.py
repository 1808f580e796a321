"""The formulas for the speed over the round trip."""

import random

import pytest

from outrider_common.speed import Times, committed, speed_ups, stop_and_wait, streamed

TIMES = Times(draft_s=0.004, pass_s=0.030, row_s=0.002)


@pytest.mark.parametrize(("acceptance", "drafted"), [(0.0, 3), (0.7, 4), (1.0, 5)])
def test_a_pass_commits_what_one_counts(acceptance: float, drafted: int) -> None:
    """The mean of 20,000 rounds lies within five standard errors: wrong once in 10**6."""
    chance = random.Random(0)
    counts = []
    for _ in range(20_000):
        run = 0
        while run < drafted and chance.random() < acceptance:
            run += 1
        counts.append(run + 1)
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    error = (variance / len(counts)) ** 0.5
    assert abs(committed([acceptance], drafted) - mean) <= 5 * error + 1e-9


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_blocks_commit_what_one_counts(num_blocks: int) -> None:
    """The mean of 20,000 rounds lies within five standard errors: wrong once in 10**6."""
    chance = random.Random(1)
    runs = (0.8, 0.5, 0.4)
    ends = chance.choices(range(4), weights=(0.2, 0.3, 0.1, 0.4), k=20_000 * num_blocks)
    counts = []
    for first in range(0, len(ends), num_blocks):
        blocks = ends[first : first + num_blocks]
        whole = next((i for i, end in enumerate(blocks) if end < 3), num_blocks)
        counts.append(1 + 3 * whole + sum(blocks[whole : whole + 1]))
    mean = sum(counts) / len(counts)
    variance = sum((count - mean) ** 2 for count in counts) / len(counts)
    assert abs(committed(runs, num_blocks) - mean) <= 5 * (variance / len(counts)) ** 0.5


def test_a_block_that_is_as_good_as_a_chain_and_costs_no_more_is_as_fast() -> None:
    """Both commit g tokens and a correction; a block in one pass of g times the time."""
    block = Times(draft_s=4 * TIMES.draft_s, pass_s=TIMES.pass_s, row_s=TIMES.row_s)
    runs = [0.8**depth for depth in range(1, 5)]
    assert committed(runs, 1) == pytest.approx(committed([0.8], 4))
    rate, length = stop_and_wait(block, runs, 0.05)
    assert rate <= stop_and_wait(TIMES, [0.8], 0.05)[0] * (1 + 1e-9)
    assert length % 4 == 0
    assert streamed(block, [1.0] * 4, 0.0, 0.4) == pytest.approx(streamed(TIMES, [1.0], 0.0, 0.4))


def test_a_cheaper_block_is_faster_where_its_guesses_are_as_good() -> None:
    runs = [0.8**depth for depth in range(1, 5)]
    cheap = Times(draft_s=TIMES.draft_s, pass_s=TIMES.pass_s, row_s=TIMES.row_s)
    assert streamed(cheap, runs, 0.0, 0.0) > streamed(TIMES, [0.8], 0.0, 0.0)


def test_the_best_draft_length_is_the_best_of_all() -> None:
    rate, length = stop_and_wait(TIMES, [0.8], 0.05)
    rates = [
        committed([0.8], g) / (g * 0.004 + 0.05 + 0.030 + 0.002 * (g + 1)) for g in range(1, 17)
    ]
    assert rate == pytest.approx(max(rates))
    assert rates[length - 1] == pytest.approx(rate)


def test_a_longer_way_never_helps_and_a_hedged_session_is_never_slower_than_the_cloud() -> None:
    found = speed_ups(TIMES, [0.7], 0.5)
    for name in ("stop_and_wait", "chain", "tree"):
        values = [getattr(speed, name) for speed in found]
        assert values == sorted(values, reverse=True)
    assert all(speed.tree >= speed.chain >= 1 for speed in found)
    assert found[-1].stop_and_wait < 1


def test_without_a_mistake_the_round_trip_does_not_matter() -> None:
    assert streamed(TIMES, [1.0], 0.0, 0.4) == pytest.approx(1 / TIMES.draft_s)
    assert streamed(TIMES, [0.5], 1.0, 0.4) == pytest.approx(1 / TIMES.draft_s)


def test_a_verifier_whose_rows_cost_more_than_drafting_bounds_the_rate() -> None:
    slow_rows = Times(draft_s=0.001, pass_s=0.030, row_s=0.005)
    assert streamed(slow_rows, [1.0], 0.0, 0.0) == pytest.approx(1 / 0.005)
