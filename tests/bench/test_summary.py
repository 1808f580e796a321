"""Figures of a cell, by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from measured import PLACE, a_round, answer

from outrider_bench.results import Cell, Counters, Quantiles, Round
from outrider_bench.summary import LEAST_TOKENS, cell_of, cells_of


def of_policy(policy: str, *rounds: Round) -> Cell:
    return cell_of(rounds[0].circumstances, policy, rounds)


def test_a_rate_is_of_the_tokens_after_the_first() -> None:
    cell = of_policy("cloud", a_round([answer("cloud", tokens=33, decode_ms=2000)]))
    assert cell.tokens_per_s == pytest.approx(16)
    assert cell.end_to_end_tokens_per_s == pytest.approx(33 / 2.1)
    assert cell.tpot_ms is not None
    assert cell.tpot_ms.p50 == pytest.approx(62.5)
    assert cell.ttft_ms == Quantiles(p50=100, p95=100, p99=100)


def test_a_speed_up_pairs_answers_to_the_same_prompt_in_the_same_round() -> None:
    """The second prompt is slow for both; unpaired, it would hide what the policy is worth."""
    rounds = [
        a_round(
            [
                answer("cloud", prompt=0, decode_ms=1000 * drift),
                answer("cloud", prompt=1, decode_ms=9000 * drift),
                answer("chain", prompt=0, decode_ms=500 * drift),
                answer("chain", prompt=1, decode_ms=4500 * drift),
            ],
            index=index,
        )
        for index, drift in enumerate((1.0, 3.0))
    ]
    cell = of_policy("chain", *rounds)
    assert cell.speedup_vs_cloud == pytest.approx(2)
    assert cell.speedup_vs_cloud_min == pytest.approx(2)
    assert cell.speedup_vs_cloud_max == pytest.approx(2)
    assert cell.tokens_per_s_max == pytest.approx(3 * (cell.tokens_per_s_min or 0))
    assert of_policy("cloud", *rounds).speedup_vs_cloud == pytest.approx(1)


def test_the_middle_round_counts_and_the_others_are_its_spread() -> None:
    rounds = [
        a_round([answer("cloud"), answer("chain", decode_ms=1000 / factor)], index=index)
        for index, factor in enumerate((1.5, 9.0, 1.2))
    ]
    cell = of_policy("chain", *rounds)
    spread = cell.speedup_vs_cloud_min, cell.speedup_vs_cloud, cell.speedup_vs_cloud_max
    assert spread == pytest.approx((1.2, 1.5, 9.0))
    assert (cell.rounds, cell.prompts, cell.tokens) == (3, 1, 99)


def test_speed_ups_are_told_apart_by_task() -> None:
    answers = [
        answer("cloud", prompt=0, task="qa"),
        answer("cloud", prompt=1, task="rag"),
        answer("auto", prompt=0, task="qa", decode_ms=500),
        answer("auto", prompt=1, task="rag", decode_ms=250),
    ]
    cell = of_policy("auto", a_round(answers))
    assert cell.speedup_by_task == pytest.approx({"qa": 2, "rag": 4})


def test_an_answer_of_a_few_tokens_says_nothing_of_rates() -> None:
    answers = [answer(name, tokens=LEAST_TOKENS - 1) for name in ("cloud", "chain")]
    cell = of_policy("chain", a_round(answers))
    assert cell.tokens_per_s is None
    assert cell.speedup_vs_cloud is None
    assert cell.tpot_ms is None
    assert cell.speedup_by_task == {}
    assert cell.end_to_end_tokens_per_s > 0


def test_sessions_at_the_same_time_share_the_time_that_all_of_them_took() -> None:
    place = replace(PLACE, sessions=2)
    answers = [answer("cloud", prompt=i, tokens=10, batch_ms=500.0) for i in range(4)]
    cell = of_policy("cloud", a_round(answers, place=place))
    assert cell.total_tokens_per_s == pytest.approx(40 / 1.0)


def test_costs_are_sums_divided_by_sums() -> None:
    counters = Counters(
        num_passes=10,
        num_rows=60,
        num_draft_tokens=40,
        num_accepted_tokens=18,
        num_corrections=6,
        bytes_up=300,
        bytes_down=600,
    )
    cell = of_policy(
        "auto", a_round([answer("cloud", tokens=30), answer("auto", tokens=30, counters=counters)])
    )
    assert cell.acceptance_rate == pytest.approx(18 / 24)
    assert cell.tokens_per_pass == pytest.approx(3)
    assert cell.rows_per_token == pytest.approx(2)
    assert cell.draft_nodes_per_token == pytest.approx(40 / 30)
    assert cell.wasted_fraction == pytest.approx(22 / 40)
    assert (cell.bytes_up_per_token, cell.bytes_down_per_token) == (10, 20)


def test_what_is_not_known_of_other_software_is_not_made_up() -> None:
    answers = [answer("cloud"), answer("assisted", counters=None)]
    cell = of_policy("assisted", a_round(answers))
    assert cell.acceptance_rate is None
    assert cell.rows_per_token is None
    assert cell.bytes_up_per_token is None
    assert cell.note is not None


def test_one_token_that_differs_is_not_exact() -> None:
    rounds = [
        a_round([answer("cloud"), answer("chain", mismatches=count)], index=index)
        for index, count in enumerate((0, 1))
    ]
    assert of_policy("chain", rounds[0]).exact is True
    both = of_policy("chain", *rounds)
    assert (both.exact, both.mismatches) == (False, 1)


def test_other_software_promises_no_text_at_a_temperature() -> None:
    place = replace(PLACE, temperature=1.0)
    answers = [answer("cloud"), answer("assisted", mismatches=20)]
    assert of_policy("assisted", a_round(answers, place=place)).exact is None
    assert of_policy("assisted", a_round(answers)).exact is False


def test_every_place_and_policy_has_a_cell_in_the_order_of_the_rounds() -> None:
    far = replace(PLACE, rtt_ms=200.0)
    answers = [answer("cloud"), answer("chain")]
    rounds = [
        a_round(answers),
        a_round(answers, place=far, block_nodes={"chain": 8}),
        a_round(answers, index=1),
    ]
    cells = cells_of(rounds)
    assert [(cell.rtt_ms, cell.policy, cell.rounds) for cell in cells] == [
        (50.0, "cloud", 2),
        (50.0, "chain", 2),
        (200.0, "cloud", 1),
        (200.0, "chain", 1),
    ]
    assert cells[3].block_nodes == 8


@given(
    factors=st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    drifts=st.lists(st.floats(0.1, 10), min_size=5, max_size=5),
)
def test_a_machine_that_drifts_changes_no_ratio(factors: list[float], drifts: list[float]) -> None:
    def cell(slowness: list[float]) -> Cell:
        rounds = [
            a_round(
                [
                    answer("cloud", decode_ms=1000 * slow),
                    answer("chain", decode_ms=1000 * slow / factor),
                ],
                index=index,
            )
            for index, (factor, slow) in enumerate(zip(factors, slowness, strict=False))
        ]
        return of_policy("chain", *rounds)

    assert cell(drifts).speedup_vs_cloud == pytest.approx(cell([1.0] * 5).speedup_vs_cloud)
