"""How a draft becomes guesses that are worth something."""

import itertools
from collections.abc import Iterable, Iterator

from fake_guesses import guessed
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.acceptance import SparseDistribution
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.guesses import Candidate, candidates, merge
from outrider_edge.proposer import CONTEXT_END, Draft

Q = SparseDistribution((10, 11, 12), (5, 4, 1))


def of(draft: Draft, depth: int = 0, calibration: Calibration | None = None) -> list[Candidate]:
    return candidates(draft, depth, calibration or Calibration(), "sampled", "lm")


def everything(found: Iterable[Candidate]) -> Iterator[Candidate]:
    for candidate in found:
        yield candidate
        yield from everything(candidate.below)


def paths(found: Iterable[Candidate], above: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    for candidate in found:
        path = (*above, candidate.guess.token)
        yield path
        yield from paths(candidate.below, path)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    length = draw(st.integers(0, 8))
    parents = [draw(st.integers(CONTEXT_END, i - 1)) for i in range(length)]
    tokens = [draw(st.integers(0, 3)) for _ in range(length)]
    return Draft(tuple(tokens), tuple(parents), (0.5,) * length)


def test_guesses_hang_from_each_other_as_in_the_draft() -> None:
    draft = Draft((10, 20, 11), (CONTEXT_END, CONTEXT_END, 0), (0.6, 0.3, 0.5))
    assert list(paths(of(draft))) == [(10,), (10, 11), (20,)]


def test_the_depth_of_a_guess_counts_from_the_committed_text() -> None:
    found = of(Draft.chain([10, 11], [0.9, 0.9]), depth=3)
    assert [c.guess.kind.depth for c in everything(found)] == [4, 5]


def test_ranks_count_the_siblings_of_one_proposer() -> None:
    draft = Draft(
        (10, 20, 30, 11),
        (CONTEXT_END, CONTEXT_END, CONTEXT_END, 0),
        (0.5,) * 4,
        proposers=("retrieval", "lm", "lm", "lm"),
    )
    kinds = {c.guess.token: c.guess.kind for c in everything(of(draft))}
    assert kinds == {
        10: GuessKind("retrieval", 0, 1, "sampled"),
        20: GuessKind("lm", 0, 1, "sampled"),
        30: GuessKind("lm", 1, 1, "sampled"),
        11: GuessKind("lm", 0, 2, "sampled"),
    }


def test_draws_are_of_one_kind() -> None:
    draft = Draft((11, 10), (CONTEXT_END,) * 2, (0.8, 0.2), drawn_from=(Q, Q))
    found = of(draft)
    assert [c.guess.kind.rank for c in found] == [0, 0]
    assert [c.guess.source for c in found] == [Q, Q]


def test_a_guess_is_worth_what_others_like_it_came_to() -> None:
    calibration = Calibration()
    for _ in range(500):
        calibration.observe(GuessKind("lm", 0, 1, "sampled"), 0.9, False)
    (wary,) = of(Draft.chain([10], [0.9]), calibration=calibration)
    assert wary.guess.own_probability == 0.9
    assert wary.guess.chance < 0.1


def test_a_guess_that_a_draft_makes_twice_is_there_once_with_all_that_follows_it() -> None:
    draft = Draft((10, 11, 10, 12), (CONTEXT_END, 0, CONTEXT_END, 2), (0.5,) * 4)
    assert list(paths(of(draft))) == [(10,), (10, 11), (10, 12)]


@given(drafts())
def test_for_any_draft_the_guesses_are_its_paths_each_once(draft: Draft) -> None:
    wanted: list[tuple[int, ...]] = []
    for token, parent in zip(draft.tokens, draft.parents, strict=True):
        wanted.append((*(wanted[parent] if parent != CONTEXT_END else ()), token))
    found = list(paths(of(draft)))
    assert len(found) == len(set(found))
    assert set(found) == set(wanted)


@given(
    fates=st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.booleans()), max_size=40),
    first=st.floats(0, 1),
    later=st.floats(0, 1),
)
def test_whatever_was_learnt_an_earlier_draw_is_never_worth_less_than_a_later_one(
    fates: list[tuple[int, float, bool]], first: float, later: float
) -> None:
    calibration = Calibration()
    for rank, own, is_committed in fates:
        calibration.observe(GuessKind("lm", rank, 1, "sampled"), own, is_committed)
    priors = tuple(sorted((first, later, first * later), reverse=True))
    draft = Draft((10, 11, 12), (CONTEXT_END,) * 3, priors, drawn_from=(Q,) * 3)
    chances = [c.guess.chance for c in of(draft, calibration=calibration)]
    assert all(one >= other for one, other in itertools.pairwise(chances))


def test_merging_joins_what_hangs_from_two_guesses_of_one_token() -> None:
    into = [guessed(10, 0.5, guessed(11, 0.5, guessed(12, 0.5)))]
    twin = merge(into, guessed(10, 0.9, guessed(11, 0.9, guessed(13, 0.9)), guessed(14, 0.9)))
    assert twin is into[0]
    assert list(paths(into)) == [(10,), (10, 11), (10, 11, 12), (10, 11, 13), (10, 14)]
    assert twin.guess.chance == 0.5
