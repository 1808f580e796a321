"""Drawn guesses in the edge's session: what they were drawn from goes along once, and unmixed."""

import pytest

from outrider_common.acceptance import SparseDistribution
from outrider_common.messages import Commit
from outrider_common.tree import DraftNode, SpeculationTree
from outrider_edge.proposer import CONTEXT_END, Draft
from outrider_edge.session import DraftPoint, DraftRun, EdgeSession

Q = SparseDistribution((10, 11, 12), (5, 4, 1))
OTHER_Q = SparseDistribution((10, 11, 12), (1, 1, 1))


def a_run(
    text: tuple[int, ...], path: tuple[int, ...] = (), node_id: int | None = None
) -> DraftRun:
    point = DraftPoint(path, node_id, position=len(text) + len(path) - 1)
    return DraftRun(text, (point,), max_depth=4)


START = a_run((1, 2))


def a_session() -> EdgeSession:
    return EdgeSession(
        (1, 2), max_outstanding_nodes=64, max_depth=4, max_length=100, clock=lambda: 0.0
    )


def add(session: EdgeSession, run: DraftRun, draft: Draft, proposer: str = "lm") -> int:
    """Give a draft to a session and count the nodes that it makes of it."""
    before = session.tree.last_id
    session.add(run, [draft], proposer)
    return session.tree.last_id - before


def draws(tokens: tuple[int, ...], source: SparseDistribution | None) -> Draft:
    """Siblings, the first the likeliest."""
    chances = tuple(0.8 * 0.2**i for i in range(len(tokens)))
    sources = (source,) * len(tokens) if source else ()
    return Draft(tokens, (CONTEXT_END,) * len(tokens), chances, drawn_from=sources)


def sources(nodes: list[DraftNode]) -> list[tuple[int, SparseDistribution | None]]:
    return [(node.token, node.draft) for node in nodes]


def test_what_guesses_were_drawn_from_goes_with_the_first_of_them() -> None:
    session = a_session()
    assert add(session, START, draws((11, 10), Q), "lm") == 2
    assert sources(session.take_unsent()) == [(11, Q), (10, None)]


def test_a_guess_that_was_not_drawn_goes_without() -> None:
    session = a_session()
    add(session, START, draws((11, 10), None), "retrieval")
    assert sources(session.take_unsent()) == [(11, None), (10, None)]


@pytest.mark.parametrize("source", [None, OTHER_Q, SparseDistribution(Q.token_ids, Q.weights)])
def test_no_other_guess_joins_drawn_ones(source: SparseDistribution | None) -> None:
    session = a_session()
    add(session, START, draws((11,), Q), "lm")
    assert add(session, START, draws((12,), source), "other") == 0
    assert sources(session.take_unsent()) == [(11, Q)]


def test_drawn_guesses_that_join_others_are_guesses_like_these() -> None:
    session = a_session()
    add(session, START, draws((12,), None), "retrieval")
    assert add(session, START, draws((11, 10), Q), "lm") == 2
    assert sources(session.take_unsent()) == [(12, None), (11, None), (10, None)]


def test_below_a_price_that_only_the_first_draw_is_worth_only_that_is_sent() -> None:
    session = a_session()
    session.receive(Commit(2, (7,), 0, num_rows=1, price=0.5))
    assert add(session, a_run((1, 2, 7)), draws((11, 10), Q), "lm") == 1
    assert sources(session.take_unsent()) == [(11, Q)]


def test_both_sides_know_the_same_of_every_parent() -> None:
    session, verifier = a_session(), SpeculationTree([1, 2])
    add(session, START, draws((11, 10), Q), "lm")
    first = a_run((1, 2), (11,), node_id=1)
    add(session, first, draws((12,), OTHER_Q), "lm")
    verifier.extend(session.take_unsent())
    for tree in (session.tree, verifier):
        assert tree.frontier.draft == Q
        assert [node.draft for node in tree.nodes()] == [OTHER_Q, None, None]


def test_draws_that_come_when_their_place_is_decided_leave_no_trace() -> None:
    session = a_session()
    session.receive(Commit(2, (11,), 0, num_rows=1))
    assert add(session, START, draws((11, 10), Q), "lm") == 0
    assert session.tree.frontier.draft is None
