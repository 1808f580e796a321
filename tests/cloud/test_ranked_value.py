"""What draft nodes are taken to be worth by their rank among siblings."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_batching_engine import Client, an_open, make_engine

from outrider_cloud.ranked_value import PRIORS, RankedValue
from outrider_common.tree import AtPosition, DraftNode

histories = st.lists(
    st.none()
    | st.integers(0, 6).flatmap(
        lambda n: st.tuples(st.just(n), st.none() | st.integers(0, max(n - 1, 0)))
    ),
    max_size=60,
)  # None: a pass without drafts


def after(history: list[tuple[int, int | None] | None]) -> RankedValue:
    value = RankedValue()
    for seen in history:
        if seen is None:
            value.rest()
        else:
            value.observe(*seen)
    return value


@given(histories)
def test_chances_fall_with_the_rank_whatever_was_seen(
    history: list[tuple[int, int | None] | None],
) -> None:
    chances = after(history).chances()
    assert list(chances) == sorted(chances, reverse=True)
    assert all(0 < chance < 1 for chance in chances)


def test_before_anything_was_seen_the_priors_hold() -> None:
    assert RankedValue().chances() == pytest.approx(PRIORS)


def test_each_rank_finds_its_own_chance() -> None:
    """Estimates of about 64 levels have a standard deviation of at most 0.06, and the mean of 200
    distant ones 0.005; the priors of two levels pull by another 0.02."""
    right, coins = (0.5, 0.3, 0.1, 0.05), random.Random(3)
    value, sums = RankedValue(), [0.0] * 4
    for number in range(200 * 100):
        value.observe(4, coins.choices((0, 1, 2, 3, None), (*right, 0.05))[0])
        if number % 100 == 99:
            sums = [a + b for a, b in zip(sums, value.chances(), strict=True)]
    assert [total / 200 for total in sums] == pytest.approx(right, abs=0.04)


def test_a_first_guess_without_siblings_says_nothing_of_runners_up() -> None:
    assert after([(1, 0)] * 50).chances()[1:] == pytest.approx(PRIORS[1:])
    assert after([(1, 0)] * 50).chances()[0] > 0.9


def test_a_session_learns_the_ranks_from_what_its_passes_accept() -> None:
    """The second of two siblings is right each time: worth more now than a third would be."""
    engine = make_engine()
    client = Client(engine, an_open([1, 2], 40, ignore_eos=True))
    engine.step()  # the prompt
    for _ in range(12):
        engine.step()
        if client.finish_reason is None:
            a_wrong_node_and_a_right_one(client)
    before, _, third, _ = client.session._node_value.chances()
    assert before < PRIORS[0]
    assert client.session._node_value.chances()[1] == before  # as good, never better
    assert third == pytest.approx(PRIORS[2], abs=0.02)


def a_wrong_node_and_a_right_one(client: Client) -> None:
    from fake_target import VOCAB_SIZE, greedy_text

    frontier = client.tree.frontier
    right = greedy_text(list(client.tree.tokens), 1)[0]
    for token in ((right + 1) % VOCAB_SIZE, right):
        node = DraftNode(client.tree.last_id + 1, token, AtPosition(frontier.position))
        client.tree.extend([node])
        client.session.extend([node])
