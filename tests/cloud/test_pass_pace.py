"""How long a verifier says that its passes take."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.pass_pace import PassPace

seconds = st.floats(1e-4, 10)


def test_nothing_is_said_before_anything_is_known() -> None:
    assert PassPace().expected_s(is_at_rest=True) == PassPace().expected_s(is_at_rest=False) == 0


def test_what_is_known_stands_for_what_is_not() -> None:
    pace = PassPace()
    pace.passed(0.2)
    assert pace.expected_s(is_at_rest=True) == 0.2
    warmed_up = PassPace()
    warmed_up.measured_at_rest(0.1)
    assert warmed_up.expected_s(is_at_rest=False) == 0.1


@given(seconds, st.lists(seconds, min_size=1))
def test_at_rest_it_is_as_at_the_start_whatever_passes_took(
    at_rest_s: float, them: list[float]
) -> None:
    pace = PassPace()
    pace.measured_at_rest(at_rest_s)
    for pass_s in them:
        pace.passed(pass_s)
    assert pace.expected_s(is_at_rest=True) == at_rest_s
    slack = 1e-9
    assert min(them) - slack <= pace.expected_s(is_at_rest=False) <= max(them) + slack


def test_a_lasting_change_is_learnt() -> None:
    pace = PassPace()
    for pass_s in [0.1] * 5 + [0.3] * 48:
        pace.passed(pass_s)
    assert 0.28 < pace.expected_s(is_at_rest=False) < 0.3
