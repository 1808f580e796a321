"""Records of tokens and sums over a generation."""

import json

import pytest

from outrider_common.records import GenerationStats, TokenOrigin, TokenRecord


def test_a_generation_that_never_started_has_zero_for_every_rate() -> None:
    stats = GenerationStats()
    rates = (stats.acceptance_rate, stats.wasted_fraction, stats.tokens_per_pass)
    assert rates == (0.0, 0.0, 0.0)
    assert stats.tokens_per_s == 0.0
    assert (stats.bytes_up_per_token, stats.bytes_down_per_token) == (0.0, 0.0)


def test_every_committed_token_is_accepted_guessed_corrected_or_hedged() -> None:
    stats = GenerationStats(num_accepted_tokens=6, num_guessed=3, num_corrections=2, num_hedged=4)
    assert stats.num_tokens == 15


def test_rates_divide_the_counters_by_what_their_names_say() -> None:
    stats = GenerationStats(
        num_accepted_tokens=6,
        num_corrections=2,
        num_hedged=4,
        num_draft_tokens=10,
        num_passes=3,
        bytes_up=24,
        bytes_down=120,
        duration_s=2.0,
    )
    assert stats.acceptance_rate == pytest.approx(0.75)  # 2 of the 10 were wrong, 2 never judged
    assert stats.wasted_fraction == pytest.approx(0.4)
    assert stats.tokens_per_pass == pytest.approx(4.0)
    assert stats.tokens_per_s == pytest.approx(6.0)
    assert stats.bytes_up_per_token == pytest.approx(2.0)
    assert stats.bytes_down_per_token == pytest.approx(10.0)


def test_stats_survive_json_with_their_derived_figures() -> None:
    stats = GenerationStats(num_accepted_tokens=3, num_accepted_tokens_per_pos=(2, 1), num_passes=2)
    parsed = json.loads(json.dumps(stats.as_json()))
    assert parsed == stats.as_json()
    assert parsed["num_accepted_tokens_per_pos"] == [2, 1]
    assert parsed["tokens_per_pass"] == pytest.approx(1.5)


def test_a_token_record_survives_json_and_names_its_origin_in_words() -> None:
    record = TokenRecord(7, 42, " the", TokenOrigin.DRAFTED, 0.5, 0.25, "lm", 1, 4)
    parsed = json.loads(json.dumps(record.as_json()))
    assert parsed == record.as_json()
    assert parsed["origin"] == "drafted"
    assert (parsed["proposer"], parsed["num_rows"]) == ("lm", 4)
