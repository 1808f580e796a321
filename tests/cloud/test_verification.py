"""One pass for one session: what is computed, and what its logits commit."""

from collections.abc import Sequence

import numpy as np
import pytest
from fake_target import VOCAB_SIZE
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.choice import UNUSABLE, ArrayLogits, ChoicePoint
from outrider_cloud.verification import (
    Ending,
    PassPlan,
    Verdict,
    Walk,
    plan_pass,
    useful_nodes,
    walk_together,
)
from outrider_common.acceptance import ExactRule, RejectionRule, SparseDistribution
from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import FinishReason
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode, SpeculationTree, TreeNode

FAR = Ending(frozenset(), max_length=100)


def a_tree() -> SpeculationTree:
    """Frontier 5 with the children 1 (children 2, 3) and 4 (child 6)."""
    tree = SpeculationTree([9, 5])
    tree.extend(
        [
            DraftNode(1, 1, AtPosition(1)),
            DraftNode(2, 4, AtPosition(1)),
            DraftNode(3, 2, AtNode(1)),
            DraftNode(4, 6, AtNode(2)),
            DraftNode(5, 3, AtNode(1)),
        ]
    )
    return tree


class WholeTrees(ArrayLogits):
    """As an accelerator does it: all rows at once."""

    num_calls = 0

    @property
    def chooses_whole_trees(self) -> bool:
        return True

    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        self.num_calls += 1
        return super().choose(points)


def logits_that_say(*tokens: int) -> np.ndarray:
    """For each row the token that it makes the best."""
    return np.eye(VOCAB_SIZE, dtype=np.float32)[list(tokens)]


def a_plan(tree: SpeculationTree, ending: Ending = FAR, max_nodes: int = 16) -> PassPlan:
    return plan_pass(tree.frontier, useful_nodes(tree, ending)[:max_nodes])


def a_walk(plan: PassPlan, ending: Ending, first_row: int = 0, **params: float) -> Walk:
    rule = ExactRule(SamplingParams(**params))  # type: ignore[arg-type]
    return Walk(plan, first_row, rule, [9, 5], 1, ending)


def walk(plan: PassPlan, logits: np.ndarray, ending: Ending) -> Verdict:
    """The verdict, however the tokens are asked for."""
    verdicts = []
    for kind in (ArrayLogits, WholeTrees):
        one = a_walk(plan, ending)
        walk_together([one], kind(logits))
        verdicts.append(one.verdict())
    assert verdicts[0] == verdicts[1]
    return verdicts[0]


def test_a_plan_has_the_frontier_and_then_the_nodes_nearest_first() -> None:
    plan = a_plan(a_tree())
    assert plan.rows.tokens == (5, 1, 4, 2, 6, 3)
    assert plan.rows.parents == (-1, 0, 0, 1, 2, 1)
    assert plan.num_draft_nodes == 5


def test_a_plan_takes_no_more_nodes_than_allowed() -> None:
    plan = a_plan(a_tree(), max_nodes=3)
    assert plan.rows.tokens == (5, 1, 4, 2)


def test_of_nodes_at_the_same_depth_the_older_comes_first() -> None:
    depths = [(node.position, node.ids[0]) for node in useful_nodes(a_tree(), FAR)]
    assert depths == [(2, 1), (2, 2), (3, 3), (3, 4), (3, 5)]


def test_a_plan_leaves_out_nodes_that_cannot_save_a_pass() -> None:
    tree = SpeculationTree([9, 5])
    tree.extend([DraftNode(1, 1, AtPosition(1)), DraftNode(2, 2, AtNode(1))])
    plan = a_plan(tree, Ending(frozenset(), max_length=4))
    assert plan.rows.tokens == (5, 1)  # position 3 is the last: node 2 would be its second guess


def test_the_walk_follows_the_children_that_carry_the_targets_tokens() -> None:
    plan = a_plan(a_tree())
    verdict = walk(plan, logits_that_say(1, 3, 0, 0, 0, 8), FAR)
    assert verdict.tokens == (1, 3, 8)
    assert verdict.kept_rows == (0, 1, 5)
    assert verdict.num_accepted == 2
    assert not verdict.is_correction  # node 3 is a leaf: no draft was there for the last token


def test_a_token_that_no_child_carries_is_a_correction() -> None:
    plan = a_plan(a_tree())
    verdict = walk(plan, logits_that_say(1, 7, 0, 0, 0, 0), FAR)
    assert verdict.tokens == (1, 7)
    assert verdict.is_correction


def with_guesses(tree: SpeculationTree, *guesses: tuple[TreeNode, tuple[int, ...]]) -> PassPlan:
    """The plan of a tree and of own guesses: a chain of tokens below each of some nodes."""
    nodes = useful_nodes(tree, FAR)
    for parent, tokens in guesses:
        for token in tokens:
            parent = TreeNode(token, parent.position + 1, parent=parent)
            nodes.append(parent)
    return plan_pass(tree.frontier, nodes)


def test_own_guesses_are_walked_like_drafts_and_counted_by_themselves() -> None:
    tree = a_tree()
    leaf = tree.find(5)  # token 3 below token 1
    assert leaf is not None
    plan = with_guesses(tree, (leaf, (7, 8)))
    assert (plan.num_draft_nodes, len(plan.own_rows)) == (5, 2)
    verdict = walk(plan, logits_that_say(1, 3, 0, 0, 0, 7, 8, 9), FAR)
    assert verdict.tokens == (1, 3, 7, 8, 9)
    assert (verdict.num_accepted, verdict.num_guessed) == (2, 2)
    assert not verdict.is_refuted
    assert not verdict.is_correction


def test_an_own_guess_that_is_wrong_is_no_correction() -> None:
    tree = SpeculationTree([9, 5])
    verdict = walk(with_guesses(tree, (tree.frontier, (7,))), logits_that_say(8, 0), FAR)
    assert (verdict.tokens, verdict.num_guessed) == ((8,), 0)
    assert not verdict.is_refuted
    assert not verdict.is_correction


def test_an_own_guess_may_be_right_where_all_drafts_are_wrong() -> None:
    tree = a_tree()
    verdict = walk(with_guesses(tree, (tree.frontier, (7,))), logits_that_say(7, *[0] * 5, 8), FAR)
    assert verdict.tokens == (7, 8)
    assert (verdict.num_accepted, verdict.num_guessed) == (0, 1)
    assert verdict.is_refuted
    assert not verdict.is_correction  # where 8 stands there were no drafts


def test_no_rule_ever_sees_an_own_guess() -> None:
    tree = a_tree()
    plan = with_guesses(tree, (tree.frontier, (7,)))
    assert a_walk(plan, FAR).points[0].children == (1, 4)
    alone = SpeculationTree([9, 5])
    plan = with_guesses(alone, (alone.frontier, (7,)))
    assert [point.children for point in a_walk(plan, FAR).points] == [(), ()]


def test_without_drafts_the_target_hedges() -> None:
    plan = a_plan(SpeculationTree([9, 5]))
    verdict = walk(plan, logits_that_say(7), FAR)
    assert verdict.tokens == (7,)
    assert verdict.num_accepted == 0
    assert not verdict.is_correction


def test_a_stop_token_ends_the_walk_also_if_a_draft_carries_it() -> None:
    ending = Ending(frozenset({1}), max_length=100)
    plan = a_plan(a_tree(), ending)
    verdict = walk(plan, logits_that_say(1, 3, 0, 0, 0, 8), ending)
    assert verdict.tokens == (1,)
    assert verdict.num_accepted == 1
    assert verdict.finish_reason is FinishReason.STOP


def test_the_walk_ends_at_the_greatest_length() -> None:
    ending = Ending(frozenset(), max_length=4)
    plan = a_plan(a_tree(), ending)
    assert plan.rows.tokens == (5, 1, 4)  # the nodes below them would be for the last position
    verdict = walk(plan, logits_that_say(1, 3, 0), ending)
    assert verdict.tokens == (1, 3)
    assert verdict.finish_reason is FinishReason.LENGTH


def test_a_token_that_is_both_a_stop_and_the_last_is_a_stop() -> None:
    ending = Ending(frozenset({7}), max_length=3)
    plan = a_plan(SpeculationTree([9, 5]), ending)
    assert walk(plan, logits_that_say(7), ending).finish_reason is FinishReason.STOP


def test_sessions_walk_together_each_over_its_own_rows() -> None:
    plan = a_plan(a_tree())
    empty = a_plan(SpeculationTree([9, 5]))
    said = logits_that_say(3, 1, 3, 0, 0, 0, 8, 6)
    logits = WholeTrees(said)
    walks = [a_walk(empty, FAR, 0), a_walk(plan, FAR, 1), a_walk(empty, FAR, 7)]
    walk_together(walks, logits)
    assert [one.verdict().tokens for one in walks] == [(3,), (1, 3, 8), (6,)]
    assert logits.num_calls == 1


def test_penalties_see_the_text_and_the_path_that_was_walked() -> None:
    plan = a_plan(a_tree())
    seen = [point.output_tokens for point in a_walk(plan, FAR, presence_penalty=1.0).points]
    assert seen == [(5,), (5, 1), (5, 4), (5, 1, 2), (5, 4, 6), (5, 1, 3)]
    one = a_walk(plan, FAR, presence_penalty=1.0)
    one.advance(1)
    assert one.point().output_tokens == (5, 1)
    assert one.point().prompt_tokens == [9]


def test_logits_that_are_no_numbers_spoil_only_their_own_walk() -> None:
    empty = a_plan(SpeculationTree([9, 5]))
    logits = logits_that_say(3, 1)
    logits[0] = np.nan
    spoilt, fine = a_walk(empty, FAR, 0), a_walk(empty, FAR, 1)
    walk_together([spoilt, fine], ArrayLogits(logits))
    assert ArrayLogits(logits).choose([spoilt.point()]) == [UNUSABLE]
    assert spoilt.is_unusable
    assert fine.verdict().tokens == (1,)


@pytest.mark.parametrize("kind", [ArrayLogits, WholeTrees])
def test_every_point_knows_from_what_its_own_children_were_drawn(kind: type[ArrayLogits]) -> None:
    seen: dict[int, tuple[SparseDistribution | None, Sequence[int]]] = {}

    class Watched(kind):  # type: ignore[misc, valid-type]
        def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
            seen.update({point.row: (point.draft, point.children) for point in points})
            return super().choose(points)

    first, second = SparseDistribution((1, 4), (2, 1)), SparseDistribution((2, 3), (1, 1))
    tree = SpeculationTree([9, 5])
    tree.extend(
        [
            DraftNode(1, 4, AtPosition(1), first),
            DraftNode(2, 1, AtPosition(1)),
            DraftNode(3, 3, AtNode(2), second),
            DraftNode(4, 2, AtNode(2)),
        ]
    )
    plan = a_plan(tree)
    walk = Walk(plan, 0, RejectionRule(SamplingParams()), (9, 5), 2, FAR)
    walk_together([walk], Watched(logits_that_say(1, 0, 2, 0, 7)))
    assert walk.verdict().tokens == (1, 2, 7)
    assert seen[0] == (first, (4, 1))
    assert seen[2] == (second, (3, 2))
    assert seen[4] == (None, ())


TOKENS = st.integers(0, 3)


@st.composite
def drafts(draw: st.DrawFn, first_id: int) -> list[DraftNode]:
    """Up to six nodes below the frontier at position 1 or below nodes with lower ids."""
    nodes = []
    for node_id in range(first_id, first_id + draw(st.integers(0, 6))):
        above = draw(st.integers(0, node_id - 1))
        source = draw(st.sampled_from([None, SparseDistribution((0, 1, 2, 3), (1, 2, 3, 4))]))
        parent = AtNode(above) if above else AtPosition(1)
        nodes.append(DraftNode(node_id, draw(TOKENS), parent, source))
    return nodes


@given(early=drafts(1), late=drafts(7), kept=st.integers(0, 6), first_row=st.integers(0, 5))
def test_where_a_pass_leads_does_not_depend_on_what_arrives_while_it_runs(
    early: list[DraftNode], late: list[DraftNode], kept: int, first_row: int
) -> None:
    tree = SpeculationTree([9, 5])
    tree.extend(early)
    plan = a_plan(tree, max_nodes=kept)
    before = a_walk(plan, FAR, first_row, presence_penalty=1.0)
    tree.extend(late)
    after = a_walk(plan, FAR, first_row, presence_penalty=1.0)
    assert after.points == before.points
    assert [point.row - first_row for point in before.points] == list(range(len(plan.rows.tokens)))


@given(early=drafts(1), kept=st.integers(0, 6), said=st.lists(TOKENS, min_size=7, max_size=7))
def test_whole_trees_and_levels_lead_to_the_same_verdict(
    early: list[DraftNode], kept: int, said: list[int]
) -> None:
    tree = SpeculationTree([9, 5])
    tree.extend(early)
    plan = a_plan(tree, max_nodes=kept)
    verdict = walk(plan, logits_that_say(*said[: len(plan.rows.tokens)]), FAR)
    node, expected = tree.frontier, [0]
    planned = useful_nodes(tree, FAR)[:kept]
    for token in verdict.tokens[:-1]:
        node = node.children[token]
        expected.append(planned.index(node) + 1)
    assert verdict.kept_rows == tuple(expected)
    assert verdict.tokens == tuple(said[row] for row in expected)


def a_curious_walk(plan: PassPlan, first_row: int, num_runner_ups: int) -> Walk:
    return Walk(plan, first_row, ExactRule(SamplingParams()), [9, 5], 1, FAR, num_runner_ups)


@pytest.mark.parametrize("kind", [ArrayLogits, WholeTrees])
def test_each_token_has_as_many_runner_ups_as_its_session_wants(kind: type[ArrayLogits]) -> None:
    plan = a_plan(a_tree())
    empty = a_plan(SpeculationTree([9, 5]))
    rows = logits_that_say(3, 1, 3, 0, 0, 0, 8, 6)
    rows += 0.5 * logits_that_say(4, 7, 2, 1, 1, 1, 9, 5)
    rows += 0.25 * logits_that_say(5, 6, 6, 2, 2, 2, 10, 4)
    walks = [a_curious_walk(empty, 0, 1), a_curious_walk(plan, 1, 2), a_curious_walk(empty, 7, 0)]
    walk_together(walks, kind(rows))
    assert [one.verdict().tokens for one in walks] == [(3,), (1, 3, 8), (6,)]
    assert [one.verdict().runner_ups for one in walks] == [((4,),), ((7, 6), (2, 6), (9, 10)), ()]


class Incurious(ArrayLogits):
    """Nobody may ask it for runner-ups."""

    def runner_ups(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[tuple[int, ...]]:
        raise AssertionError("nobody wanted any")


def test_where_nobody_wants_runner_ups_none_are_looked_for() -> None:
    empty = a_plan(SpeculationTree([9, 5]))
    spoilt = logits_that_say(1)
    spoilt[0] = np.nan
    walk_together([a_walk(empty, FAR)], Incurious(logits_that_say(1)))
    walk_together([a_curious_walk(empty, 0, 3)], Incurious(spoilt))


def a_weighing_walk(plan: PassPlan, first_row: int, num_top: int | None) -> Walk:
    rule = ExactRule(SamplingParams())
    return Walk(plan, first_row, rule, [9, 5], 1, FAR, num_top_logprobs=num_top)


@pytest.mark.parametrize("kind", [ArrayLogits, WholeTrees])
def test_each_token_has_the_log_probabilities_of_the_row_that_chose_it(
    kind: type[ArrayLogits],
) -> None:
    plan = a_plan(a_tree())
    empty = a_plan(SpeculationTree([9, 5]))
    logits = kind(logits_that_say(3, 1, 3, 0, 0, 0, 8, 6))
    walks = [
        a_weighing_walk(empty, 0, 1),
        a_weighing_walk(plan, 1, 0),
        a_weighing_walk(empty, 7, None),
    ]
    walk_together(walks, logits)
    first, second, third = (walk.verdict() for walk in walks)
    assert first.logprobs == tuple(logits.logprobs([0], [3], 1))
    steps = list(walks[1].steps())
    assert len(second.tokens) == len(second.logprobs) == 3
    assert second.logprobs == tuple(logits.logprobs(*map(list, zip(*steps, strict=True)), 0))
    assert third.logprobs == ()


class Unweighed(ArrayLogits):
    """Nobody may ask it for log-probabilities."""

    def logprobs(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[TokenLogprobs]:
        raise AssertionError("nobody wanted any")


def test_where_nobody_wants_log_probabilities_none_are_computed() -> None:
    empty = a_plan(SpeculationTree([9, 5]))
    spoilt = logits_that_say(1)
    spoilt[0] = np.nan
    walk_together([a_walk(empty, FAR)], Unweighed(logits_that_say(1)))
    walk_together([a_weighing_walk(empty, 0, 3)], Unweighed(spoilt))
