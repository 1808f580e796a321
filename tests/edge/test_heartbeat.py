"""When a silent verifier is asked, and when it is given up."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.heartbeat import NUM_TICKS, Beat, Heartbeat


def silence(heartbeat: Heartbeat, num_heard: int = 0) -> list[Beat]:
    """The beats of a verifier that says nothing more, to the last."""
    beats = [heartbeat.tick(num_heard)]
    while beats[-1] is not Beat.GIVE_UP:
        beats.append(heartbeat.tick(num_heard))
    return beats


def test_a_silent_verifier_is_asked_once_and_then_given_up() -> None:
    heartbeat = Heartbeat(2.0, opening_s=0.1)
    beats = silence(heartbeat)
    assert beats.count(Beat.ASK) == 1
    assert beats.index(Beat.ASK) * heartbeat.tick_s < 1.0
    assert (len(beats) + 1) * heartbeat.tick_s == 2.0  # it was heard just after a tick


def test_whoever_hears_something_does_not_ask() -> None:
    heartbeat = Heartbeat(2.0, opening_s=0.1)
    assert {heartbeat.tick(num_heard) for num_heard in range(1, 100)} == {Beat.WAIT}


def test_an_answer_begins_the_silence_anew() -> None:
    heartbeat = Heartbeat(2.0, opening_s=0.1)
    for num_heard in range(1, 20):
        before = [heartbeat.tick(num_heard - 1) for _ in range(NUM_TICKS - 2)]
        assert Beat.GIVE_UP not in before
        assert heartbeat.tick(num_heard) is Beat.WAIT


@given(silence_s=st.floats(0.01, 100), opening_s=st.floats(0, 100))
def test_a_long_way_gets_the_time_that_it_needs(silence_s: float, opening_s: float) -> None:
    heartbeat = Heartbeat(silence_s, opening_s)
    beats = silence(heartbeat)
    asked_for_s = (len(beats) - 1 - beats.index(Beat.ASK)) * heartbeat.tick_s
    assert asked_for_s >= opening_s
    assert asked_for_s >= 0.4 * silence_s
    longest_s = (len(beats) + 1) * heartbeat.tick_s
    assert longest_s <= silence_s + 2 * opening_s + heartbeat.tick_s
