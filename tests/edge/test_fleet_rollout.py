"""The stages of a rollout, without devices."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.fleet.rollout import MOST_STARTS, Offer, Rollout, Stage, Tally

OFFER = Offer(7, "new", "file:///new.tar", "ab" * 32, "", trial_tokens=100, margin=0.05)
BEGUN = Rollout(OFFER, own="mine", fallback="proven")

tallies = st.builds(
    lambda num_tokens, judged, share: Tally(num_tokens, int(judged * share), judged),
    st.integers(0, 400),
    st.integers(0, 400),
    st.floats(0, 1),
)


def in_trial(before: Tally) -> Rollout:
    return BEGUN.installed().begin_trial(before)


def test_the_new_drafter_is_in_use_from_the_trial_on_and_only_if_it_is_not_worse() -> None:
    trial = in_trial(Tally(100, 80, 100))
    assert [BEGUN.bundle_in_use, BEGUN.installed().bundle_in_use] == ["proven"] * 2
    assert trial.bundle_in_use == OFFER.bundle == "new-abababababab"
    good, bad = trial.tried(Tally(100, 76, 100)), trial.tried(Tally(100, 74, 100))
    assert (good.stage, good.bundle_in_use) == (Stage.ACCEPTED, OFFER.bundle)
    assert (bad.stage, bad.bundle_in_use) == (Stage.ROLLED_BACK, "proven")
    assert "0.740 against 0.800 before" in bad.reason


def test_a_drafter_that_guesses_nothing_is_worse_than_one_that_does() -> None:
    judged = in_trial(Tally(100, 30, 60)).tried(Tally(150, 0, 0))
    assert judged.stage is Stage.ROLLED_BACK


@given(before=tallies, trial=tallies, margin=st.floats(0, 1))
def test_a_trial_is_judged_by_the_margin_and_not_before_its_tokens(
    before: Tally, trial: Tally, margin: float
) -> None:
    rollout = replace(in_trial(before), offer=replace(OFFER, margin=margin)).tried(trial)
    if trial.num_tokens < OFFER.trial_tokens:
        assert rollout.stage is Stage.TRYING
    else:
        is_worse = trial.acceptance < before.acceptance - margin
        assert rollout.stage is (Stage.ROLLED_BACK if is_worse else Stage.ACCEPTED)


def test_a_daemon_that_dies_in_the_trial_again_and_again_goes_back() -> None:
    rollout = in_trial(Tally(100, 80, 100))
    for _ in range(MOST_STARTS - 1):
        rollout = rollout.restarted()
        assert rollout.stage is Stage.TRYING
    further = rollout.tried(Tally(10, 5, 5)).restarted()
    assert further.stage is Stage.TRYING
    assert rollout.restarted().stage is Stage.ROLLED_BACK


@given(st.sampled_from(list(Stage)))
def test_a_start_changes_no_other_stage(stage: Stage) -> None:
    rollout = replace(BEGUN, stage=stage)
    if stage is not Stage.TRYING:
        assert rollout.restarted() is rollout


def test_what_fails_before_it_was_in_use_is_refused_and_else_rolled_back() -> None:
    assert BEGUN.ended("no").stage is Stage.REFUSED
    assert BEGUN.installed().ended("no").stage is Stage.REFUSED
    assert in_trial(Tally()).ended("no").stage is Stage.ROLLED_BACK
