"""Specs of synthetic targets as text; the text of such a target, and guesses at it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.errors import ConfigError
from outrider_common.synthetic import (
    EOS,
    SyntheticSpec,
    guess,
    next_token,
    rank_chances,
    ranked_guesses,
    seen_positions,
    token_after,
)

SPECS = st.builds(
    SyntheticSpec,
    vocab=st.integers(3, 2**20),
    acceptance=st.floats(0, 1),
    c0_s=st.floats(0, 60),
    c1_s=st.floats(0, 60),
    positions=st.integers(2, 2**20),
    kv_bytes=st.integers(1, 2**24),
    seed=st.integers(0, 2**32 - 1),
    d0_s=st.floats(0, 60),
    d1_s=st.floats(0, 60),
)
TOKENS = st.integers(0, 2**32 - 1)
TEXTS = st.lists(TOKENS, min_size=1, max_size=40)
SPEC = SyntheticSpec(vocab=100)


# --- as text ----------------------------------------------------------------------------------


@given(spec=SPECS)
def test_what_a_spec_is_written_as_is_read_as_the_same_spec(spec: SyntheticSpec) -> None:
    assert SyntheticSpec.parse(str(spec)) == spec


def test_a_spec_is_written_as_people_write_it() -> None:
    text = (
        "synthetic:vocab=1000,acceptance=0.8,c0=20ms,c1=0.2ms,positions=8192,kv_bytes=1024,seed=1"
    )
    assert str(SyntheticSpec()) == text


@pytest.mark.parametrize("text", ["synthetic", "synthetic:"])
def test_the_name_alone_has_all_defaults(text: str) -> None:
    assert SyntheticSpec.parse(text) == SyntheticSpec()


def test_keys_may_come_in_any_order_and_times_in_three_units() -> None:
    spec = SyntheticSpec.parse("synthetic:c1=50us,c0=1.5s,vocab=7")
    assert spec == SyntheticSpec(vocab=7, c0_s=1.5, c1_s=5e-5)
    assert SyntheticSpec.parse("synthetic:c0=0ms").c0_s == 0


def test_a_spec_may_name_the_tokenizer_of_its_edges() -> None:
    fingerprint = "v1:" + "0a" * 32
    spec = SyntheticSpec.parse(f"synthetic:tokenizer={fingerprint}")
    assert spec.tokenizer_fingerprint == fingerprint
    assert SyntheticSpec.parse(str(spec)) == spec
    assert SyntheticSpec().tokenizer_fingerprint == str(SyntheticSpec())
    with pytest.raises(ConfigError, match="tokenizer of the synthetic target is 'v2:x'"):
        SyntheticSpec.parse("synthetic:tokenizer=v2:x")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("smollm2", "'smollm2' is no synthetic target; write 'synthetic'"),
        ("synthetics:", "'synthetics:' is no synthetic target"),
        ("synthetic:speed=3", "has no 'speed'; the keys are vocab, acceptance, c0"),
        ("synthetic:vocab=9,", "has no ''"),
        ("synthetic:seed=1,seed=1", "seed of the synthetic target is given twice"),
        ("synthetic:vocab", "vocab of the synthetic target is ''; write a whole number"),
        ("synthetic:vocab=1e3", "vocab of the synthetic target is '1e3'; write a whole number"),
        ("synthetic:vocab=2", "vocab of the synthetic target is 2; set it from 3"),
        ("synthetic:acceptance=high", "is 'high'; write a number from 0 to 1"),
        ("synthetic:acceptance=1.01", "acceptance of the synthetic target is 1.01; set it from 0"),
        ("synthetic:acceptance=nan", "acceptance of the synthetic target is nan"),
        ("synthetic:c0=20", "c0 of the synthetic target is '20'; write a number and its unit"),
        ("synthetic:c0=20m", "c0 of the synthetic target is '20m'; write a number and its unit"),
        ("synthetic:c0=ms", "c0 of the synthetic target is 'ms'; write a number and its unit"),
        ("synthetic:c0=-1ms", "c0 of the synthetic target is -0.001 s; set it from 0 to 60 s"),
        ("synthetic:c1=infs", "c1 of the synthetic target is inf s; set it from 0 to 60 s"),
        ("synthetic:positions=1", "positions of the synthetic target is 1; set it from 2"),
        ("synthetic:kv_bytes=0", "kv_bytes of the synthetic target is 0; set it from 1"),
        ("synthetic:d0=1", "d0 of the synthetic target is '1'; write a number and its unit"),
        ("synthetic:d1=61s", "d1 of the synthetic target is 61.0 s; set it from 0 to 60 s"),
        ("synthetic:seed=-1", "seed of the synthetic target is -1; set it from 0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_value_and_the_remedy(
    text: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        SyntheticSpec.parse(text)


def test_a_pass_takes_a_fixed_time_and_one_for_each_row() -> None:
    assert SyntheticSpec(c0_s=2.0, c1_s=0.5).pass_s(6) == 5.0


def test_a_drafter_of_its_own_takes_its_time_and_changes_nothing_for_edges() -> None:
    spec = SyntheticSpec.parse("synthetic:d0=2ms,d1=0.5ms")
    assert (spec.has_drafter, SyntheticSpec().has_drafter) == (True, False)
    assert spec.level_s(4) == pytest.approx(0.004)
    assert spec.without_drafter == SyntheticSpec()
    assert spec.tokenizer_fingerprint == SyntheticSpec().tokenizer_fingerprint


# --- the target's text ------------------------------------------------------------------------


@given(spec=SPECS, text=TEXTS)
def test_the_next_token_is_one_of_the_vocabulary_and_never_the_end(
    spec: SyntheticSpec, text: list[int]
) -> None:
    token = next_token(spec, text)
    assert token != EOS
    assert 0 < token < spec.vocab
    assert token == next_token(spec, tuple(text))


@given(spec=SPECS, texts=st.lists(TEXTS, min_size=1, max_size=5))
def test_arrays_of_texts_have_the_same_next_tokens_as_one_text_at_a_time(
    spec: SyntheticSpec, texts: list[list[int]]
) -> None:
    lengths = np.array([len(text) for text in texts])
    positions = np.array(seen_positions(spec, lengths))  # [seen, texts]
    seen = [np.array([text[i] for text, i in zip(texts, row, strict=True)]) for row in positions]
    assert token_after(spec, lengths, seen).tolist() == [next_token(spec, t) for t in texts]


@given(text=TEXTS, acceptance=st.floats(0, 1))
def test_the_text_does_not_depend_on_how_well_it_is_guessed(
    text: list[int], acceptance: float
) -> None:
    assert next_token(replace(SPEC, acceptance=acceptance), text) == next_token(SPEC, text)


def written(spec: SyntheticSpec, num_tokens: int, prompt: tuple[int, ...] = (5,)) -> list[int]:
    text = list(prompt)
    while len(text) < num_tokens:
        text.append(next_token(spec, text))
    return text


def test_all_tokens_but_the_end_are_equally_likely() -> None:
    """Chi-square with 98 degrees of freedom exceeds 190 once in ten million seeds."""
    counts = np.bincount(written(SPEC, 20_001)[1:], minlength=100)[1:]
    expected = 20_000 / 99
    assert ((counts - expected) ** 2 / expected).sum() < 190


def test_another_seed_another_prompt_or_another_length_is_another_text() -> None:
    text = written(SPEC, 40)
    assert written(replace(SPEC, seed=2), 40)[1:] != text[1:]
    assert written(SPEC, 40, (6,))[1:] != text[1:]
    assert written(SPEC, 41, (5, 5))[2:] != text[1:]


def shows(text: list[int], position: int) -> bool:
    """Whether one wrong token in the first half changes what the second half should be."""
    wrong = list(text)
    wrong[position] += 1
    half = len(text) // 2
    return any(next_token(SPEC, wrong[:i]) != text[i] for i in range(half, len(text)))


def test_a_token_that_is_wrong_anywhere_shows_in_the_text_that_follows() -> None:
    """Each of 300 looks back hits a given token with a chance of 1/200 to 1/100: 87 of 100."""
    text = written(SPEC, 200)
    assert sum(shows(text, position) for position in range(100)) > 75
    assert all(shows(text, position) for position in range(96, 100))


# --- guesses ----------------------------------------------------------------------------------


@given(spec=SPECS, text=TEXTS, coin_seed=st.integers(0, 2**32 - 1))
def test_a_guess_is_a_token_and_stays_the_same(
    spec: SyntheticSpec, text: list[int], coin_seed: int
) -> None:
    token = guess(spec, text, coin_seed)
    assert 0 < token < spec.vocab
    assert token == guess(spec, tuple(text), coin_seed)


@given(text=TEXTS, coin_seed=st.integers(0, 2**32 - 1), vocab=st.integers(3, 50))
def test_guesses_are_always_right_or_never_at_the_ends_of_the_scale(
    text: list[int], coin_seed: int, vocab: int
) -> None:
    right = next_token(SyntheticSpec(vocab=vocab), text)
    assert guess(SyntheticSpec(vocab=vocab, acceptance=1), text, coin_seed) == right
    assert guess(SyntheticSpec(vocab=vocab, acceptance=0), text, coin_seed) != right


@pytest.mark.parametrize("acceptance", [0.05, 0.5, 0.8, 0.98])
def test_guesses_are_right_with_the_stated_chance_and_independently(acceptance: float) -> None:
    """Five standard deviations each: wrong about once in a million seeds, and these are fixed."""
    spec = replace(SPEC, acceptance=acceptance)
    text = written(spec, 10_001)
    right = np.array([guess(spec, text[:i], 3) == text[i] for i in range(1, 10_001)])
    deviation = (acceptance * (1 - acceptance) / 10_000) ** 0.5
    assert abs(right.mean() - acceptance) < 5 * deviation
    assert abs(np.corrcoef(right[1:], right[:-1])[0, 1]) < 5 / 10_000**0.5


def test_sessions_with_different_texts_are_guessed_independently() -> None:
    """The share of right guesses at one length, over texts; five standard deviations."""
    right = [
        guess(SPEC, [i, j], 3) == next_token(SPEC, [i, j]) for i in range(70) for j in range(70)
    ]
    assert abs(np.mean(right) - 0.8) < 5 * (0.16 / 4900) ** 0.5


def test_wrong_guesses_are_spread_over_the_vocabulary() -> None:
    spec = replace(SPEC, acceptance=0)
    assert {guess(spec, [i, 1], 3) for i in range(3000)} == set(range(1, 100))


@pytest.mark.parametrize("acceptance", [0.0, 0.5, 0.8])
def test_the_right_token_has_each_rank_with_its_chance(acceptance: float) -> None:
    """Five standard deviations: wrong once in a million seeds, and this one is fixed."""
    spec = SyntheticSpec(vocab=500, acceptance=acceptance)
    texts = [[1 + i % 499, 1 + i // 499] for i in range(4000)]
    drafts = [ranked_guesses(spec, text, 3, 4) for text in texts]
    for rank, chance in enumerate(rank_chances(spec, 4)):
        num_right = sum(
            draft[rank] == next_token(spec, text) for draft, text in zip(drafts, texts, strict=True)
        )
        assert abs(num_right - 4000 * chance) <= 5 * (4000 * chance * (1 - chance)) ** 0.5


def test_ranked_guesses_differ_and_the_first_is_the_guess() -> None:
    spec = SyntheticSpec(vocab=20, acceptance=0.5)
    for i in range(1, 20):
        guesses = ranked_guesses(spec, [i], 0, 30)
        assert sorted(guesses) == list(range(1, 20))  # all tokens but the end, each once
        assert ranked_guesses(spec, [i], 0, 4)[0] == guess(spec, [i], 0)
