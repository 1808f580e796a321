"""Warm-up, turns and rounds in one place of the grid, with players that count."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from measured import PLACE

from outrider_bench.lineup import BLOCK_LENGTHS, FIXED_BLOCK, PLANS, Plan, plans_of
from outrider_bench.measuring import Batch, PlaceBench, num_differences
from outrider_bench.questions import Played, Question, Reply
from outrider_bench.results import Circumstances
from outrider_common.errors import ConfigError

QUESTIONS = [Question(i, f"task {i % 2}", (1, 2, i), seed=i) for i in range(4)]


class FakePlayers:
    """Notes who is asked what; a block of 8 is the fastest."""

    def __init__(self, wrong: str = "") -> None:
        self.asked: list[tuple[str, tuple[int, ...], int, int]] = []
        self._wrong = wrong

    def play(self, plan: Plan, batch: Batch, max_tokens: int, block_nodes: int) -> Played:
        indices = tuple(question.index for question in batch)
        self.asked.append((plan.name, indices, max_tokens, block_nodes))
        duration_ms = 100.0 + abs(block_nodes - 8)
        replies = [self._reply(plan, question, duration_ms) for question in batch]
        return Played(tuple(replies), duration_ms)

    def _reply(self, plan: Plan, question: Question, duration_ms: float) -> Reply:
        text = [question.index, 7, 7, 8 if plan.name == self._wrong else 7]
        return Reply(tuple(text), 10.0, duration_ms)

    def policies(self) -> list[str]:
        return [name for name, *_ in self.asked]


def place_bench(
    players: FakePlayers,
    policies: Sequence[str],
    *,
    place: Circumstances = PLACE,
    num_warm_up: int = 2,
) -> PlaceBench:
    return PlaceBench(
        place,
        plans_of(tuple(policies)),
        QUESTIONS,
        players,
        max_tokens=100,
        num_warm_up=num_warm_up,
        load=lambda: 0.25,
    )


def test_policies_take_turns_at_every_prompt_and_another_one_begins_each_time() -> None:
    players = FakePlayers()
    place_bench(players, ["chain", "auto"]).measure(0, {})
    assert [(name, *indices) for name, indices, *_ in players.asked] == [
        ("cloud", 0), ("chain", 0), ("auto", 0),
        ("chain", 1), ("auto", 1), ("cloud", 1),
        ("auto", 2), ("cloud", 2), ("chain", 2),
        ("cloud", 3), ("chain", 3), ("auto", 3),
    ]  # fmt: skip
    players.asked.clear()
    place_bench(players, ["chain", "auto"]).measure(1, {})
    assert players.policies()[0] == "chain"


def test_a_round_holds_every_answer_of_every_policy_in_the_order_of_the_prompts() -> None:
    measured = place_bench(FakePlayers(), ["chain", "auto"]).measure(2, {"chain": 4})
    assert Counter(answer.policy for answer in measured.answers) == Counter(
        {"cloud": 4, "chain": 4, "auto": 4}
    )
    for policy in ("cloud", "chain", "auto"):
        own = [answer.prompt for answer in measured.answers if answer.policy == policy]
        assert own == [0, 1, 2, 3]
    assert (measured.index, measured.load, measured.block_nodes) == (2, 0.25, {"chain": 4})


def test_tokens_that_differ_from_the_cloud_are_counted() -> None:
    measured = place_bench(FakePlayers(wrong="auto"), ["chain", "auto"]).measure(0, {})
    wrong = {answer.policy: answer.mismatches for answer in measured.answers}
    assert wrong == {"cloud": 0, "chain": 0, "auto": 1}


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [([1, 2], [1, 2], 0), ([1, 2], [1, 3], 1), ([1], [1, 2, 3], 2), ([2, 1], [1, 2], 2)],
)
def test_differences_are_counted_place_by_place(
    one: list[int], other: list[int], count: int
) -> None:
    assert num_differences(one, other) == num_differences(other, one) == count


def test_sessions_ask_together() -> None:
    players = FakePlayers()
    place_bench(players, ["chain"], place=replace(PLACE, sessions=3)).measure(0, {})
    batches = {indices for _, indices, *_ in players.asked}
    assert batches == {(0, 1, 2), (3, 0, 1)}


def test_the_warm_up_asks_every_policy_and_says_which_block_is_in_force() -> None:
    players = FakePlayers()
    blocks = place_bench(players, ["chain", "stop-and-wait"]).warm_up()
    assert Counter(players.policies()) == {"cloud": 2, "chain": 2, "stop-and-wait": 2}
    assert blocks == {"stop-and-wait": FIXED_BLOCK}


def test_a_tuned_block_is_the_fastest_that_was_tried() -> None:
    players = FakePlayers()
    bench = place_bench(players, ["stop-and-wait-tuned"])
    blocks = bench.warm_up()
    assert blocks == {"stop-and-wait-tuned": 8}
    tried = {nodes for name, _, tokens, nodes in players.asked if tokens < 100}
    assert tried == set(BLOCK_LENGTHS)
    players.asked.clear()
    bench.measure(0, blocks)
    assert {nodes for name, *_, nodes in players.asked if name != "cloud"} == {8}


def test_a_block_that_was_chosen_before_an_interruption_is_kept() -> None:
    players = FakePlayers()
    blocks = place_bench(players, ["stop-and-wait-tuned"]).warm_up({"stop-and-wait-tuned": 2})
    assert blocks == {"stop-and-wait-tuned": 2}
    assert all(tokens == 100 for _, _, tokens, _ in players.asked)


def test_without_a_link_the_round_trip_is_added_to_all_but_the_time_between_tokens() -> None:
    measured = place_bench(FakePlayers(), ["colocated"]).measure(0, {"colocated": 8})
    cloud, beside = measured.answers[0], measured.answers[-1]
    assert (cloud.policy, beside.policy) == ("cloud", "colocated")
    assert cloud.ttft_ms == 10
    assert beside.ttft_ms == 10 + PLACE.rtt_ms
    assert beside.duration_ms - beside.ttft_ms == 90
    assert beside.batch_ms == 100 + PLACE.rtt_ms


def test_the_baseline_is_measured_even_if_nobody_asks_for_it() -> None:
    assert [plan.name for plan in plans_of(("auto", "chain"))] == ["cloud", "chain", "auto"]


@pytest.mark.parametrize(("names", "said"), [(("fast",), "no policy 'fast'"), ((), "No policy")])
def test_a_policy_that_there_is_not_is_refused(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        plans_of(names)
    assert all(name in str(refused.value) for name in PLANS)
