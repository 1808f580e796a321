"""Best first in the edge's session: several leaves at once, the reserve, and what is sent when."""

import pytest

from outrider_common.acceptance import SparseDistribution
from outrider_common.messages import Commit
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.estimators import WINDOW, Estimators
from outrider_edge.expansion import MAX_LEAVES
from outrider_edge.proposer import CONTEXT_END, Draft
from outrider_edge.session import DraftRun, EdgeSession

Q = SparseDistribution((10, 20, 30), (5, 4, 1))


def a_session(
    room: int = 16, leaf_share: float = 0.3, calibration: Calibration | None = None
) -> EdgeSession:
    return EdgeSession(
        (1, 2),
        max_outstanding_nodes=room,
        max_depth=8,
        max_length=100,
        calibration=calibration,
        estimators=with_leaf_share(leaf_share),
        clock=lambda: 0.0,
    )


def with_leaf_share(share: float) -> Estimators:
    """Estimators that have seen often what one more leaf costs."""
    estimators = Estimators()
    estimators.drafted(0.01, num_leaves=1, num_levels=1)
    for _ in range(WINDOW):
        estimators.drafted(0.01 * (1 + share), num_leaves=2, num_levels=1)
    return estimators


def run_of(session: EdgeSession) -> DraftRun:
    run = session.next_run()
    assert run is not None
    return run


def star(*guesses: tuple[int, float], source: SparseDistribution | None = None) -> Draft:
    """Siblings: tokens and probabilities."""
    tokens, probabilities = zip(*guesses, strict=True)
    drawn_from = (source,) * len(tokens) if source else ()
    return Draft(tokens, (CONTEXT_END,) * len(tokens), probabilities, drawn_from=drawn_from)


def guess(session: EdgeSession, *drafts: Draft) -> list[int]:
    """Answer the next run; the tokens that are sent then."""
    session.add(run_of(session), drafts, "lm")
    return sent(session)


def sent(session: EdgeSession) -> list[int]:
    return [node.token for node in session.take_unsent()]


# --- several leaves in one run --------------------------------------------------------------------

ALIKE = star((10, 0.5), (20, 0.5), (30, 0.45))


def test_a_run_has_several_leaves_where_they_are_alike_and_cost_little_more() -> None:
    session = a_session(leaf_share=0.1)
    guess(session, ALIKE)
    assert run_of(session).paths == [(10,), (20,), (30,)]


def test_a_run_has_one_leaf_where_another_takes_as_long_again() -> None:
    session = a_session(leaf_share=1.0)
    guess(session, ALIKE)
    assert run_of(session).paths == [(10,)]


def test_a_run_has_one_leaf_where_the_others_are_much_less_likely() -> None:
    session = a_session(leaf_share=0.3)
    guess(session, star((10, 0.9), (20, 0.06)))
    assert run_of(session).paths == [(10,)]


def test_a_run_never_has_more_leaves_than_there_is_room_or_use_for() -> None:
    many = star(*((token, 0.5) for token in range(10, 22)))
    wide = a_session(room=64, leaf_share=0.0)
    assert len(guess(wide, many)) == 12
    assert len(run_of(wide).points) == MAX_LEAVES
    narrow = a_session(room=14, leaf_share=0.0)
    guess(narrow, many)
    assert len(run_of(narrow).points) == 2


def test_the_answers_to_a_run_hang_from_the_leaves_that_were_asked() -> None:
    session = a_session(leaf_share=0.1)
    guess(session, ALIKE)
    session.add(run_of(session), [star((11, 0.9)), star((21, 0.8)), Draft()], "lm")
    assert session.take_unsent() == [DraftNode(4, 11, AtNode(1)), DraftNode(5, 21, AtNode(2))]
    assert run_of(session).paths == [(10, 11), (20, 21)]


def test_a_guess_that_waits_is_sent_when_drafting_goes_on_below_it() -> None:
    session = a_session(room=3, leaf_share=0.0)
    assert guess(session, star((10, 0.9), (20, 0.6))) == [10]
    assert run_of(session).paths == [(10,), (20,)]
    assert sent(session) == [20]


# --- the reserve ----------------------------------------------------------------------------------


def test_siblings_that_are_worth_the_price_are_sent_and_others_wait_until_it_falls() -> None:
    session = a_session(room=64)
    guess(session, star((7, 0.9)))
    session.receive(Commit(2, (7,), 1, price=0.25))
    assert guess(session, star((10, 0.9))) == [10]
    assert guess(session, star((11, 0.6), (21, 0.3), (31, 0.15))) == [11, 21]
    session.receive(Commit(3, (10,), 1, price=0.1))
    assert session.take_unsent() == [DraftNode(5, 31, AtPosition(3))]


def test_with_little_room_a_sibling_waits_for_likelier_nodes_and_is_sent_if_there_are_none() -> (
    None
):
    session = a_session(room=4)
    assert guess(session, star((10, 0.9), (20, 0.1))) == [10]
    assert guess(session, star((11, 0.9))) == [11]
    assert guess(session, Draft()) == [20]


def test_with_much_room_the_same_sibling_is_sent_at_once() -> None:
    assert guess(a_session(room=64), star((10, 0.9), (20, 0.1))) == [10, 20]


def test_what_follows_a_guess_that_was_not_sent_is_used_when_the_target_says_the_same() -> None:
    session = a_session(room=4)
    chains = Draft(
        (10, 20, 21, 22), (CONTEXT_END, CONTEXT_END, 1, 2), (0.9, 0.2, 0.9, 0.9)
    )  # retrieval's second continuation
    assert guess(session, chains) == [10]
    session.receive(Commit(2, (20,), 0, is_correction=True, num_rows=2))
    assert session.take_unsent() == [DraftNode(2, 21, AtPosition(2)), DraftNode(3, 22, AtNode(2))]
    assert run_of(session).paths == [(21, 22)]


def test_a_guess_of_the_reserve_that_is_refuted_is_never_sent() -> None:
    session = a_session(room=4)
    assert guess(session, star((10, 0.9), (20, 0.3))) == [10]
    session.receive(Commit(2, (10,), 1, num_rows=2))
    assert guess(session, Draft()) == []
    assert session.tree.num_outstanding == 0


@pytest.mark.parametrize("position", [3, 4])
def test_no_guess_of_the_reserve_is_sent_beyond_the_end_of_the_text(position: int) -> None:
    session = EdgeSession(
        (1, 2), max_outstanding_nodes=9, max_depth=8, max_length=position + 1, clock=lambda: 0.0
    )
    session.add(run_of(session), [Draft.chain([10, 11, 12, 13], [0.9] * 4)], "lm")
    assert len(sent(session)) == position - 2  # the last position is the verifier's own


# --- what guesses teach that were not sent --------------------------------------------------------


class Told(Calibration):
    """Remembers the fates that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fates: list[tuple[float, bool]] = []

    def observe(self, kind: GuessKind, probability: float, is_committed: bool) -> None:
        self.fates.append((probability, is_committed))
        super().observe(kind, probability, is_committed)


def test_guesses_teach_the_calibration_although_they_were_not_sent() -> None:
    told = Told()
    session = a_session(room=4, calibration=told)
    assert guess(session, star((10, 0.9), (20, 0.3), (30, 0.1))) == [10]
    session.receive(Commit(2, (20,), 0, is_correction=True, num_rows=2))
    assert told.fates == [(0.9, False), (0.3, True), (0.1, False)]


def test_draws_that_were_not_sent_teach_nothing() -> None:
    told = Told()
    session = a_session(room=4, calibration=told)
    assert guess(session, star((10, 0.8), (20, 0.16), source=Q)) == [10]
    session.receive(Commit(2, (20,), 0, is_correction=True, num_rows=2))
    assert told.fates == [(0.8, False)]


def test_draws_that_were_overtaken_while_they_were_made_teach_nothing() -> None:
    told = Told()
    session = a_session(calibration=told)
    asked = run_of(session)
    session.receive(Commit(2, (10,), 0, num_rows=1))
    session.add(asked, [star((10, 0.8), (20, 0.16), source=Q)], "lm")
    assert told.fates == []
