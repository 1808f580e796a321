"""A drafter on the target's own device: what it drafts, and how long that takes."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_batching_engine import Client, an_open, run_to_the_end

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.device_drafter import MOST_LEVELS, DeviceDrafter, best_levels
from outrider_cloud.server import build_engine
from outrider_common.messages import Commit
from outrider_common.settings.verifier import VerifierSettings
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_models.store import ModelStore

SPEC = SyntheticSpec(vocab=100, c0_s=10e-3, c1_s=0.1e-3, d0_s=1e-3, d1_s=0.01e-3)
SURE = replace(SPEC, acceptance=1.0)


def an_engine(spec: SyntheticSpec, tmp_path: Path) -> BatchingEngine:
    settings = VerifierSettings(model=str(spec), kv_cache_mib=4)
    return build_engine(settings, ModelStore(tmp_path))


def asks(engine: BatchingEngine, prompt: list[int], max_tokens: int, *, guesses: bool) -> Client:
    fingerprint = engine.info.tokenizer_fingerprint
    message = an_open(prompt, max_tokens, own_guesses=guesses, tokenizer_fingerprint=fingerprint)
    return Client(engine, message)


def written(spec: SyntheticSpec, prompt: list[int], num_tokens: int) -> list[int]:
    text = list(prompt)
    for _ in range(num_tokens):
        text.append(next_token(spec, text))
    return text[len(prompt) :]


# --- how long its chains are ------------------------------------------------------------------


@given(
    acceptance=st.floats(0, 1),
    times=st.lists(st.floats(1e-5, 1), min_size=4, max_size=4),
    num_sessions=st.integers(1, 300),
    other=st.integers(0, MOST_LEVELS),
)
def test_no_other_length_gives_more_tokens_a_second(
    acceptance: float, times: list[float], num_sessions: int, other: int
) -> None:
    c0_s, c1_s, d0_s, d1_s = times
    spec = replace(SPEC, acceptance=acceptance, c0_s=c0_s, c1_s=c1_s, d0_s=d0_s, d1_s=d1_s)

    def rate(num_levels: int) -> float:
        tokens = 1.0
        for depth in range(1, num_levels + 1):
            tokens += acceptance**depth
        rows_s = c1_s * num_sessions * (1 + num_levels)
        return tokens / (c0_s + rows_s + num_levels * (d0_s + d1_s * num_sessions))

    assert rate(best_levels(spec, num_sessions)) >= rate(other) * (1 - 1e-12)


def test_a_loaded_device_drafts_less_down_to_nothing() -> None:
    lengths = [best_levels(SPEC, num_sessions) for num_sessions in (1, 4, 16, 64, 256, 1024)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > 4
    assert lengths[-1] == 0


def test_a_target_that_takes_no_time_can_be_asked_too() -> None:
    assert best_levels(SyntheticSpec(c0_s=0, c1_s=0, d0_s=1e-3), 4) == 0


# --- what its drafts take ---------------------------------------------------------------------


def test_a_level_is_drafted_at_once_for_all_sessions_that_have_one_so_deep() -> None:
    drafter = DeviceDrafter(SPEC)
    for most in (1, 3, 3):
        drafter.guesses([1, 2]).after((), most)
    assert drafter.settle() == pytest.approx(SPEC.level_s(3) + 2 * SPEC.level_s(2))
    assert drafter.settle() == 0


def test_what_is_looked_at_again_was_drafted_once_until_the_text_goes_on() -> None:
    drafter = DeviceDrafter(SPEC)
    guesses = drafter.guesses([1, 2])
    first = guesses.after((), 3)
    drafter.settle()
    assert (guesses.after((), 3), drafter.settle()) == (first, 0)
    guesses.go_on([7])
    assert guesses.after((), 3) != first
    assert drafter.settle() > 0


def test_its_chains_are_as_long_as_is_best_for_the_sessions_of_the_last_pass() -> None:
    drafter = DeviceDrafter(SPEC)
    sessions = [drafter.guesses([1, i]) for i in range(64)]
    before = {len(guesses.after((), 99)) for guesses in sessions}
    drafter.settle()
    for guesses in sessions:
        guesses.go_on([5])
    after = {len(guesses.after((), 99)) for guesses in sessions}
    assert (before, after) == ({best_levels(SPEC, 1)}, {best_levels(SPEC, 64)})


def test_a_chain_that_goes_on_below_others_is_what_the_target_would_write() -> None:
    guesses = DeviceDrafter(SURE).guesses([3])
    text = written(SURE, [3], 4)
    assert [one.token for one in guesses.after(tuple(text[:2]), 2)] == text[2:]


# --- behind the engine ------------------------------------------------------------------------


def test_sessions_are_drafted_for_and_write_the_targets_own_text(tmp_path: Path) -> None:
    engine = an_engine(SPEC, tmp_path)
    prompts = [[1, i] for i in range(2, 6)]
    clients = [asks(engine, prompt, 40, guesses=True) for prompt in prompts]
    run_to_the_end(engine)
    for prompt, client in zip(prompts, clients, strict=True):
        assert client.answer == written(SPEC, prompt, 40)
    counters = engine.stats.counters
    assert counters.num_right_own_guesses > 60
    assert counters.num_passes < 40


def test_a_pass_takes_as_much_longer_as_its_drafts_take(tmp_path: Path) -> None:
    """Of a chain of 8 all are right, so that every pass drafts 8 levels but the last."""
    engine = an_engine(replace(SURE, d0_s=5e-3), tmp_path)
    engine.warm_up(16)  # so that it knows what rows cost, and needs no experiments
    client = asks(engine, [1], 18, guesses=True)
    run_to_the_end(engine)
    commits = [event for event in client.events if isinstance(event, Commit)]
    assert [commit.num_rows for commit in commits] == [9, 9]
    assert all(commit.pass_us > 1e6 * (8 * 5e-3 + SURE.pass_s(9)) for commit in commits)


def test_a_session_that_wants_no_guesses_is_not_drafted_for(tmp_path: Path) -> None:
    engine = an_engine(SPEC, tmp_path)
    client = asks(engine, [1], 6, guesses=False)
    run_to_the_end(engine)
    commits = [event for event in client.events if isinstance(event, Commit)]
    assert [commit.num_rows for commit in commits] == [1] * 6
    assert all(commit.pass_us >= 10_000 for commit in commits)
