"""Drafting policies: what they let a session do, and that all of them write the same text."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulated_pair import World, played

from outrider_common.messages import Commit
from outrider_common.settings.edge import DraftingPolicyName
from outrider_edge.policies import AUTO, POLICIES, DraftingPolicy
from outrider_edge.proposer import CONTEXT_END, Draft
from outrider_edge.session import EdgeSession

CHAIN, TREE = POLICIES["chain"], POLICIES["tree"]
DRAFTING = {name: policy for name, policy in POLICIES.items() if policy.drafts}
STOP_AND_WAIT = POLICIES["stop-and-wait"].with_block(2)
ONE_AHEAD = POLICIES["one-ahead"].with_block(2)
FORK = Draft((10, 20), (CONTEXT_END,) * 2, (0.6, 0.4))


def a_session(policy: DraftingPolicy) -> EdgeSession:
    return EdgeSession(
        (1, 2),
        max_outstanding_nodes=64,
        max_depth=9,
        max_length=100,
        policy=policy,
        clock=lambda: 0.0,
    )


def step(session: EdgeSession, *drafts: Draft) -> list[int]:
    """Draft once; the tokens that are sent then."""
    run = session.next_run()
    assert run is not None
    session.add(run, drafts or [Draft.chain([7], [0.9])] * len(run.points), "lm")
    return [node.token for node in session.take_unsent()]


def test_every_policy_of_the_settings_is_there() -> None:
    assert set(get_args(DraftingPolicyName)) == set(POLICIES)


def test_without_branches_only_the_first_guess_is_sent_and_only_one_leaf_expanded() -> None:
    chain, tree = a_session(CHAIN), a_session(TREE)
    assert step(chain, FORK) == [10]
    assert step(tree, FORK) == [10, 20]
    run = chain.next_run()
    assert run is not None
    assert run.paths == [(10,)]


@pytest.mark.parametrize("policy", [AUTO, TREE])
def test_a_guess_that_is_hardly_ever_right_is_not_sent(policy: DraftingPolicy) -> None:
    for chance, sent in ((0.03, [10, 20]), (0.003, [10])):
        rare = Draft((10, 20), (CONTEXT_END,) * 2, (0.9, chance))
        assert step(a_session(policy), rare) == sent


def test_fixed_policies_pay_no_heed_to_the_price() -> None:
    for policy, sent in ((AUTO, []), (CHAIN, [7]), (TREE, [7])):
        session = a_session(policy)
        session.receive(Commit(2, (3,), 0, num_rows=1, price=0.95))
        run = session.next_run()
        if run is None:
            assert policy is AUTO
            continue
        session.add(run, [Draft.chain([7], [0.9])], "lm")
        assert [node.token for node in session.take_unsent()] == sent


def test_a_block_goes_together_and_the_next_waits_for_the_verdict() -> None:
    session = a_session(STOP_AND_WAIT)
    assert step(session) == []
    assert step(session) == [7, 7]
    assert session.next_run() is None
    session.receive(Commit(2, (7,), 1, num_rows=3))
    assert session.next_run() is None  # the second is still under way
    session.receive(Commit(3, (7, 8), 1, num_rows=2))
    assert session.next_run() is not None


def test_one_ahead_drafts_the_next_block_while_one_is_under_way_and_no_third() -> None:
    session = a_session(ONE_AHEAD)
    assert [step(session) for _ in range(4)] == [[], [7, 7], [], [7, 7]]
    assert session.next_run() is None


def test_a_block_that_cannot_be_filled_is_sent_as_it_is() -> None:
    session = a_session(STOP_AND_WAIT)
    assert step(session) == []
    run = session.next_run()
    assert run is not None
    session.add(run, [Draft()], "lm")
    assert session.take_unsent() == []
    assert session.next_run() is None
    assert [node.token for node in session.take_unsent()] == [7]


def test_what_a_commit_prunes_is_no_longer_part_of_a_block() -> None:
    session = a_session(STOP_AND_WAIT)
    step(session)
    session.receive(Commit(2, (9,), 0, num_rows=1))
    assert [step(session), step(session)] == [[], [7, 7]]


@given(
    st.sampled_from([STOP_AND_WAIT, ONE_AHEAD, POLICIES["one-ahead"]]),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_no_more_blocks_are_begun_than_allowed(
    policy: DraftingPolicy, num_unsent: int, num_under_way: int
) -> None:
    assert policy.block_nodes is not None
    if policy.may_draft(num_unsent, num_unsent + num_under_way):
        assert num_unsent < policy.block_nodes
        assert num_unsent or num_under_way <= policy.block_nodes * (policy.max_blocks - 1)


@pytest.mark.parametrize("policy", DRAFTING.values(), ids=lambda policy: policy.name)
def test_every_policy_gets_through_a_text_and_has_drafts_accepted(policy: DraftingPolicy) -> None:
    outcome = played(World(acceptance=lambda _: 0.9), policy=policy)
    assert outcome.num_accepted > 20


@pytest.mark.parametrize("name", ["cloud", "cloud-lookup"])
def test_the_cloud_alone_asks_no_proposer_for_anything(name: str) -> None:
    outcome = played(World(), policy=POLICIES[name])
    assert (outcome.num_calls, outcome.num_sent) == (0, 0)
    assert outcome.num_passes == 400


def test_guesses_of_the_verifier_are_for_auto_and_lookup_and_only_one_policy_forbids_hedging() -> (
    None
):
    assert {name for name in POLICIES if POLICIES[name].own_guesses} == {"auto", "cloud-lookup"}
    assert {name for name in POLICIES if POLICIES[name].waits_for_drafts} == {"stop-and-wait"}


def test_streaming_beats_stopping_and_waiting() -> None:
    world = World(acceptance=lambda _: 0.95)
    seconds = {name: played(world, policy=POLICIES[name]).seconds for name in DRAFTING}
    assert seconds["chain"] < seconds["one-ahead"] < seconds["stop-and-wait"]
    assert seconds["auto"] < 1.05 * min(seconds.values())
