"""Guesses as the edge holds them: with what they are worth by what became of others like them.

Knows how a draft becomes calibrated guesses; nothing of the session's tree or of what is sent.
"""

from collections import Counter
from dataclasses import dataclass

from outrider_common.acceptance import SparseDistribution
from outrider_edge.calibration import Calibration, GuessKind
from outrider_edge.proposer import CONTEXT_END, Draft


@dataclass(frozen=True, slots=True)
class Guess:
    """One guess of a draft.

    Attributes:
        token: its token id.
        kind: as what it is calibrated.
        own_probability: what its proposer says.
        chance: what that is worth, given that its parent is committed.
        source: the distribution that it was drawn from, if it was.
    """

    token: int
    kind: GuessKind
    own_probability: float
    chance: float
    source: SparseDistribution | None = None


@dataclass(slots=True, eq=False)
class Candidate:
    """A guess that was not sent, and those that hang from it."""

    guess: Guess
    below: list["Candidate"]


def candidates(
    draft: Draft, depth: int, calibration: Calibration, regime: str, proposer: str
) -> list[Candidate]:
    """The guesses of a draft that follow its leaf directly, each with what hangs from it.

    Args:
        draft: what a proposer says.
        depth: how many guesses stand between the last committed token and the leaf, itself
            included; 0 for the frontier.
        calibration: what guesses are worth.
        regime: how they are made and judged; see `GuessKind`.
        proposer: the name of what drafted them, where the draft does not say.
    """
    names = draft.proposers or (proposer,) * len(draft.tokens)
    sources = draft.drawn_from or (None,) * len(draft.tokens)
    ranks: Counter[tuple[int, str]] = Counter()  # of the next child, by parent and proposer
    depths = {CONTEXT_END: depth}
    places: dict[int, list[Candidate]] = {CONTEXT_END: []}  # what hangs from each guess
    for i, (token, parent) in enumerate(zip(draft.tokens, draft.parents, strict=True)):
        depths[i] = depths[parent] + 1
        # Draws are of one kind: an earlier one must never be worth less than a later one, or the
        # later one could be sent alone, as if it had been drawn first.
        rank = 0 if sources[i] is not None else ranks[parent, names[i]]
        ranks[parent, names[i]] += 1
        kind = GuessKind(names[i], rank, depths[i], regime)
        own = draft.probabilities[i]
        guess = Guess(token, kind, own, calibration.chance(kind, own), sources[i])
        places[i] = merge(places[parent], Candidate(guess, [])).below
    return places[CONTEXT_END]


def merge(into: list[Candidate], candidate: Candidate) -> Candidate:
    """Add a candidate for one place, or what hangs from it to its twin there.

    Returns:
        The one that is there.
    """
    for twin in into:
        if twin.guess.token == candidate.guess.token:
            for below in candidate.below:
                merge(twin.below, below)
            return twin
    into.append(candidate)
    return candidate
