"""How the verifier guesses what comes next, against a plain version that looks everywhere."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matches import matches_by_brute_force

from outrider_cloud.own_guesses import GuessChances, OwnGuesses
from outrider_common.match_votes import MAX_MATCHES, MIN_MATCH_TOKENS, NO_VOTE, match_votes

SHORT = st.lists(st.integers(0, 2), min_size=1, max_size=14)
"""So short that a search looks at everything."""
PATHS = st.lists(st.integers(0, 2), max_size=4)
MOST = 5


def plain_chain(text: list[int]) -> list[tuple[int, float]]:
    """Tokens and what votes give them, step by step."""
    matches = matches_by_brute_force(text, text, MIN_MATCH_TOKENS)[:MAX_MATCHES]
    followed = [(length, [*text[end:]] * MOST) for length, end in matches]
    chain: list[tuple[int, float]] = []
    for step in range(MOST if matches else 0):
        votes = [0.0] * 3
        for length, tokens in followed:
            votes[tokens[step]] += match_votes(length + step)
        best = max((tokens[step] for _, tokens in followed), key=lambda token: votes[token])
        chain.append((best, votes[best] / (sum(votes) + NO_VOTE)))
        followed = [(length, tokens) for length, tokens in followed if tokens[step] == best]
    return chain


def chain_of(guesses: OwnGuesses, path: tuple[int, ...] = ()) -> list[tuple[int, float]]:
    return [(guess.token, guess.votes) for guess in guesses.after(path, MOST)]


@given(text=SHORT)
def test_each_step_takes_what_the_matches_that_still_agree_vote_for(text: list[int]) -> None:
    expected = plain_chain(text)
    found = chain_of(OwnGuesses(text))
    assert [token for token, _ in found] == [token for token, _ in expected]
    assert [votes for _, votes in found] == pytest.approx([votes for _, votes in expected])


@given(text=SHORT, path=PATHS)
def test_what_follows_a_path_is_what_would_follow_if_it_were_text(
    text: list[int], path: list[int]
) -> None:
    guesses = OwnGuesses(text)
    assert chain_of(guesses, tuple(path)) == chain_of(OwnGuesses([*text, *path]))
    assert chain_of(guesses) == chain_of(OwnGuesses(text))  # and the path has left no trace


@given(text=SHORT, parts=st.lists(SHORT, max_size=4), path=PATHS)
def test_a_text_that_came_in_parts_is_the_same_text(
    text: list[int], parts: list[list[int]], path: list[int]
) -> None:
    guesses = OwnGuesses(text)
    for part in parts:
        guesses.after(tuple(path), MOST)
        guesses.go_on(part)
    whole = OwnGuesses([*text, *(token for part in parts for token in part)])
    assert chain_of(guesses, tuple(path)) == chain_of(whole, tuple(path))


@given(text=SHORT, path=PATHS, most=st.integers(0, 4))
def test_a_chain_is_no_longer_than_wanted_and_chances_are_chances(
    text: list[int], path: list[int], most: int
) -> None:
    chain = OwnGuesses(text).after(tuple(path), most)
    assert len(chain) <= most
    assert all(0 < guess.chance < 1 for guess in chain)


def test_at_first_guesses_are_trusted_less_than_votes_say() -> None:
    assert all(guess.chance < guess.votes for guess in OwnGuesses([1, 2, 3, 1, 2]).after((), 4))


def test_what_was_right_is_trusted_more_and_what_was_wrong_less_though_no_row_was_spent() -> None:
    def chance_after(token: int) -> float:
        guesses = OwnGuesses([1, 2, 3, 1, 2])
        guesses.after((), 1)
        guesses.go_on([token, 8, 1, 2])  # the guess was 3
        return guesses.after((), 1)[0].chance / guesses.after((), 1)[0].votes

    assert chance_after(9) < 0.85 < chance_after(3)


def test_a_guess_below_a_path_that_was_refuted_is_not_judged() -> None:
    judged, unjudged = (OwnGuesses([1, 2, 3, 4, 1, 2]) for _ in range(2))
    judged.after((3,), 1)  # would be 4
    unjudged.after((8,), 1)
    for guesses in (judged, unjudged):
        guesses.go_on([3, 7, 1, 2])
    assert judged.after((), 1)[0].chance < unjudged.after((), 1)[0].chance


def test_short_and_long_matches_are_judged_by_themselves() -> None:
    guesses = OwnGuesses([1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5])
    before = OwnGuesses([8, 9, 1, 8, 9]).after((), 1)[0].chance
    guesses.after((), 1)
    guesses.go_on([0, 8, 9, 1, 8, 9])  # a long match was wrong
    assert guesses.after((), 1)[0].chance == pytest.approx(before)


@pytest.mark.parametrize("ratio", [0.2, 0.6, 1.0])
def test_chances_settle_where_guesses_are_right_that_often(ratio: float) -> None:
    """Standard deviation of a ratio over 64 fading guesses at votes of 0.7: below 0.08; 4 of it."""
    coins = random.Random(1)
    chances = GuessChances()
    for _ in range(1000):
        chances.observe(0.7, was_right=coins.random() < 0.7 * ratio)
    assert chances.chance(0.7) == pytest.approx(0.7 * ratio, abs=0.7 * 0.32)


def test_nothing_is_ever_certain() -> None:
    chances = GuessChances()
    for _ in range(500):
        chances.observe(0.9, was_right=True)
    assert chances.chance(1.0) < 1.0
