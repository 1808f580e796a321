"""What may follow each token, against a list of everything that was learnt."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.successor_table import FOLLOWED, RUNNER_UPS, SuccessorTable

TOKENS = st.integers(0, 6)
PAIRS = st.lists(st.tuples(TOKENS, TOKENS), max_size=60)


def table_of(pairs: list[tuple[int, int]], max_tokens: int = 100) -> SuccessorTable:
    table = SuccessorTable(max_tokens)
    for token, successor in pairs:
        table.follow(token, successor)
    return table


@given(pairs=PAIRS, token=TOKENS)
def test_the_latest_successors_come_first(pairs: list[tuple[int, int]], token: int) -> None:
    latest_first = [after for before, after in reversed(pairs) if before == token]
    expected = list(dict.fromkeys(latest_first))[: len(FOLLOWED)]
    assert table_of(pairs).successors(token) == list(zip(expected, FOLLOWED, strict=False))


@given(pairs=PAIRS, token=TOKENS, runner_ups=st.permutations(range(12)))
def test_runner_ups_come_after_what_followed_and_only_once(
    pairs: list[tuple[int, int]], token: int, runner_ups: list[int]
) -> None:
    table = table_of(pairs)
    followed = table.successors(token)
    table.run_up(token, [11, 10])
    table.run_up(token, runner_ups)
    others = [other for other in runner_ups if other not in dict(followed)]
    expected = [*followed, *zip(others[: len(RUNNER_UPS)], RUNNER_UPS, strict=False)]
    assert table.successors(token) == expected


def test_a_runner_up_that_is_named_twice_is_one_guess() -> None:
    table = SuccessorTable()
    table.run_up(1, [5, 5, 6])
    assert [token for token, _ in table.successors(1)] == [5, 6]


def test_of_a_token_that_was_never_seen_nothing_is_said() -> None:
    assert table_of([(1, 2)]).successors(2) == []


@given(pairs=PAIRS, max_tokens=st.integers(1, 5))
def test_it_remembers_the_tokens_that_were_last_learnt_of(
    pairs: list[tuple[int, int]], max_tokens: int
) -> None:
    latest_first = list(dict.fromkeys(before for before, _ in reversed(pairs)))
    table = table_of(pairs, max_tokens)
    assert len(table) == min(max_tokens, len(latest_first))
    known = {token for token in range(7) if table.successors(token)}
    assert known == set(latest_first[:max_tokens])


def test_chances_fall_and_leave_room_for_something_else() -> None:
    assert sum(FOLLOWED) + sum(RUNNER_UPS) < 1
    for chances in (FOLLOWED, RUNNER_UPS):
        assert list(chances) == sorted(chances, reverse=True)
