"""Probing: when to try again, where drafting does not pay."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.probing import CALLS_PER_PROBE, FIRST_REST, LONGEST_REST, Probing


def probes(probing: Probing, positions: range) -> list[int]:
    """Where probes begin, if the proposer may be asked once a position."""
    begun = []
    for position in positions:
        before = probing.num_probes
        probing.may_ask(position)
        if probing.num_probes > before:
            begun.append(position)
    return begun


def test_the_rests_between_probes_double_up_to_a_bound() -> None:
    begun = probes(Probing(), range(3000))
    gaps = [b - a for a, b in zip([0, *begun], begun, strict=False)]
    assert gaps[:6] == [FIRST_REST, 32, 64, 128, 256, 512]
    assert set(gaps[5:]) == {LONGEST_REST}


def test_a_probe_is_a_few_calls() -> None:
    probing = Probing()
    assert sum(probing.may_ask(position) for position in range(FIRST_REST + 30)) == CALLS_PER_PROBE


def test_a_probe_may_ask_several_times_at_one_position() -> None:
    probing = Probing()
    probing.may_ask(0)
    assert [probing.may_ask(FIRST_REST) for _ in range(6)] == [True] * 4 + [False] * 2


def test_drafting_that_goes_on_paying_starts_the_back_off_anew() -> None:
    probing = Probing()
    probes(probing, range(1000))
    for position in range(1000, 1001 + FIRST_REST):
        probing.pays(position)
    begin = 1001 + FIRST_REST
    assert probes(probing, range(begin, begin + 100)) == [begin + FIRST_REST, begin + 48]
    assert probing.num_rests == 2


def test_drafting_that_pays_for_a_moment_does_not_make_rests_shorter() -> None:
    probing = Probing()
    probes(probing, range(1000))
    probing.pays(1000)
    probing.pays(1001)
    assert probes(probing, range(1002, 2000)) == [1002 + LONGEST_REST]


def test_drafting_that_pays_ends_a_probe() -> None:
    probing = Probing()
    probing.may_ask(0)
    assert probing.may_ask(FIRST_REST)
    assert probing.is_probing
    probing.pays(FIRST_REST)
    assert not probing.is_probing


@given(st.lists(st.integers(1, 5), min_size=1, max_size=2000))
def test_a_drafter_that_never_pays_is_asked_for_a_bounded_share_of_the_text(
    steps: list[int],
) -> None:
    probing = Probing()
    position = asked = 0
    for step in steps:
        asked += probing.may_ask(position)
        position += step
    assert asked <= CALLS_PER_PROBE * (6 + position / LONGEST_REST)
