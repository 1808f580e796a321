"""Which verifier takes the next session."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.verifier_choice import NEARLY, NEARLY_S, Choice, choose, expected_times_s


def a_choice(
    round_trip_s: float | None = 0.01,
    pass_s: float | None = 0.05,
    num_running: int = 0,
    num_waiting: int = 0,
) -> Choice:
    return Choice(round_trip_s, pass_s, num_running, num_waiting, max_running=64)


def candidates_of(*choices: Choice) -> Sequence[int]:
    """Those among which chance decides."""
    seen: list[Sequence[int]] = []

    def pick(indices: Sequence[int]) -> int:
        seen.append(indices)
        return indices[0]

    choose(choices, pick)
    return seen[0]


def test_the_nearer_one_is_chosen() -> None:
    assert candidates_of(a_choice(0.2), a_choice(0.01), a_choice(0.3)) == [1]


def test_the_one_where_nobody_waits_is_chosen_although_it_is_farther() -> None:
    assert candidates_of(a_choice(0.01, num_waiting=9), a_choice(0.1)) == [1]


def test_the_emptier_one_is_chosen() -> None:
    assert candidates_of(a_choice(num_running=64), a_choice(num_running=2)) == [1]


def test_the_one_whose_passes_are_fast_is_chosen() -> None:
    assert candidates_of(a_choice(pass_s=0.2), a_choice(pass_s=0.02)) == [1]


def test_chance_decides_between_those_that_are_nearly_as_good() -> None:
    assert candidates_of(a_choice(0.010), a_choice(0.012), a_choice(0.2)) == [0, 1]


def test_what_is_not_known_yet_keeps_nobody_from_being_chosen() -> None:
    assert candidates_of(a_choice(None, None)) == [0]


def test_one_whose_passes_nobody_has_seen_is_tried_like_the_fastest() -> None:
    known, slow = a_choice(pass_s=0.01), a_choice(pass_s=0.2)
    assert candidates_of(known, a_choice(pass_s=None), slow) == [0, 1]


times = st.none() | st.floats(0, 10)
choices = st.builds(
    Choice, times, times, st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 100)
)


@given(st.lists(choices, min_size=1, max_size=6))
def test_no_choice_is_much_worse_than_the_best(them: list[Choice]) -> None:
    times_s = expected_times_s(them)
    best_s, chosen_s = min(times_s), times_s[choose(them)]
    assert chosen_s <= max(best_s * NEARLY, best_s + NEARLY_S)
