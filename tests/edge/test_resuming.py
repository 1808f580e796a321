"""Which breaks are followed by another session, and when."""

import pytest

from outrider_common.errors import (
    BrokenOffError,
    CapacityError,
    DrainingError,
    InvalidPromptError,
    MismatchError,
    ModelFileError,
    OutriderError,
    ProtocolViolationError,
    UnavailableError,
    UnknownModelError,
    UnsupportedError,
)
from outrider_edge.backoff import Backoff
from outrider_edge.heartbeat import SilenceError
from outrider_edge.resuming import Patience, Progress, Resuming

FRESH = Progress(0, was_opened=False)
GONE = UnavailableError("gone")


def a_resuming(open_s: float = 5.0, resume_s: float = 60.0) -> Resuming:
    """One whose pauses are as long as they may be."""
    backoff = Backoff(uniform=lambda _low, high: high)
    return Resuming(Patience(open_s=open_s, resume_s=resume_s), backoff)


def under_way(num_tokens: int) -> Progress:
    return Progress(num_tokens, was_opened=True)


def pause_s(
    resuming: Resuming,
    error: OutriderError,
    progress: Progress,
    now_s: float = 1.0,
    has_alternative: bool = False,
) -> float:
    return resuming.pause_s(error, progress, now_s, has_alternative=has_alternative)


@pytest.mark.parametrize(
    "error",
    [
        InvalidPromptError("no"),
        MismatchError("no"),
        ModelFileError("no"),
        ProtocolViolationError("no"),
        UnknownModelError("no"),
        UnsupportedError("no"),
    ],
)
@pytest.mark.parametrize("progress", [FRESH, under_way(7)])
def test_what_a_verifier_refused_is_refused(error: OutriderError, progress: Progress) -> None:
    with pytest.raises(type(error)) as caught:
        pause_s(a_resuming(), error, progress, has_alternative=True)
    assert caught.value is error


def test_the_first_try_after_a_break_comes_at_once_and_later_ones_do_not() -> None:
    resuming = a_resuming()
    assert pause_s(resuming, GONE, under_way(5)) == 0
    later = [pause_s(resuming, GONE, under_way(5)) for _ in range(3)]
    assert later == [0.1, 0.2, 0.4]


def test_progress_makes_the_next_break_a_first_one() -> None:
    resuming = a_resuming()
    for _ in range(4):
        pause_s(resuming, GONE, under_way(5))
    assert pause_s(resuming, GONE, under_way(6)) == 0
    assert pause_s(resuming, GONE, under_way(6)) == 0.1


def test_another_verifier_is_asked_at_once() -> None:
    resuming = a_resuming()
    for _ in range(4):
        assert pause_s(resuming, DrainingError("ends", 9.0), under_way(5), 1.0, True) == 0


@pytest.mark.parametrize("error", [CapacityError("full", 3.0), DrainingError("ends", 3.0)])
def test_a_verifier_that_says_when_is_not_asked_earlier(error: OutriderError) -> None:
    assert 3 <= pause_s(a_resuming(), error, under_way(5)) <= 3.75


def test_without_a_token_more_it_is_given_up_at_the_bound() -> None:
    resuming = a_resuming(resume_s=10)
    pause_s(resuming, GONE, under_way(5), now_s=100)
    pause_s(resuming, GONE, under_way(5), now_s=109)
    with pytest.raises(UnavailableError):
        pause_s(resuming, GONE, under_way(5), now_s=110)


def test_the_bound_counts_from_the_break_and_not_from_the_last_token() -> None:
    resuming = a_resuming(resume_s=10)
    assert pause_s(resuming, GONE, under_way(5), now_s=1000) == 0


def test_a_bound_of_nothing_does_not_go_on() -> None:
    with pytest.raises(UnavailableError):
        pause_s(a_resuming(resume_s=0), GONE, under_way(5), has_alternative=True)


def test_the_first_session_has_a_bound_of_its_own_counted_from_the_request() -> None:
    resuming = a_resuming(open_s=5)
    assert pause_s(resuming, GONE, FRESH, now_s=1) == 0
    with pytest.raises(UnavailableError):
        pause_s(resuming, GONE, FRESH, now_s=5)
    assert pause_s(resuming, GONE, FRESH, now_s=5, has_alternative=True) == 0


def test_a_full_verifier_turns_a_request_away_unless_there_is_another() -> None:
    full = CapacityError("full", 1.0)
    assert pause_s(a_resuming(), full, FRESH, has_alternative=True) == 0
    with pytest.raises(CapacityError):
        pause_s(a_resuming(), full, FRESH)


def test_a_request_that_makes_verifiers_fail_is_tried_once_more_only() -> None:
    resuming, failed = a_resuming(), OutriderError("The verifier failed.")
    assert pause_s(resuming, failed, under_way(5)) == 0
    with pytest.raises(OutriderError, match="The verifier failed"):
        pause_s(resuming, failed, under_way(5), has_alternative=True)


def test_an_answer_that_is_given_up_says_what_was_written() -> None:
    error = a_resuming().given_up(GONE, "Once upon", 2)
    assert isinstance(error, BrokenOffError)
    assert (error.text, error.num_tokens) == ("Once upon", 2)
    assert "2 tokens" in str(error)
    assert "gone" in str(error)


@pytest.mark.parametrize(
    ("error", "num_tokens"), [(GONE, 0), (ProtocolViolationError("a defect"), 2)]
)
def test_what_is_no_break_stays_what_it_is(error: OutriderError, num_tokens: int) -> None:
    assert a_resuming().given_up(error, "", num_tokens) is error


def test_one_that_may_be_written_alone_soon_gives_up_where_no_verifier_takes_sessions() -> None:
    backoff = Backoff(uniform=lambda _low, high: high)
    resuming = Resuming(Patience(alone_s=0.5), backoff)
    assert pause_s(resuming, GONE, under_way(7), now_s=1.0) == 0.0
    assert pause_s(resuming, GONE, under_way(7), now_s=1.1) == 0.1
    assert pause_s(resuming, GONE, under_way(7), now_s=1.6, has_alternative=True) == 0.0
    with pytest.raises(UnavailableError):
        pause_s(resuming, GONE, under_way(7), now_s=1.6)


def test_a_session_gets_longer_to_be_opened_after_others_that_broke() -> None:
    assert Resuming(Patience(heartbeat_s=1.0)).opening_s == 1.0
    assert Resuming(Patience(heartbeat_s=1.0, num_breaks=2)).opening_s == 4.0
    assert Resuming(Patience(heartbeat_s=1.0, num_breaks=9)).opening_s == Patience().open_s


def test_a_silence_was_pause_enough_for_one_that_may_be_written_alone() -> None:
    with pytest.raises(SilenceError):
        pause_s(Resuming(Patience(alone_s=0.5)), SilenceError("nothing"), under_way(7))
    assert pause_s(a_resuming(), SilenceError("nothing"), under_way(7)) == 0.0
