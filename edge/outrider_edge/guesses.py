"""Guesses as the edge holds them: with what they are worth by what became of others like them.

Knows how a draft becomes calibrated guesses; nothing of the session's tree or of what is sent.
"""

from collections import Counter
from collections.abc import Iterable
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
    signed = draft.signed(proposer)
    sources = draft.drawn_from or (None,) * len(draft.tokens)
    ranks: Counter[tuple[int, str]] = Counter()  # of the next child, by parent and proposer
    depths = {CONTEXT_END: depth}
    below: dict[int, list[Candidate]] = {CONTEXT_END: []}
    for i, (token, parent, own, name) in enumerate(
        zip(draft.tokens, draft.parents, draft.probabilities, signed.proposers, strict=True)
    ):
        depths[i] = depths[parent] + 1
        # Draws are of one kind: an earlier one must never be worth less than a later one, or the
        # later one could be sent alone, as if it had been drawn first.
        rank = 0 if sources[i] is not None else ranks[parent, name]
        ranks[parent, name] += 1
        kind = GuessKind(name, rank, depths[i], regime)
        guess = Guess(token, kind, own, calibration.chance(kind, own), sources[i])
        below[i] = []
        below[parent].append(Candidate(guess, below[i]))
    return below[CONTEXT_END]


def merge(into: list[Candidate], more: Iterable[Candidate]) -> None:
    """Add candidates for one place; those that are there already only get what hangs from them."""
    known = {candidate.guess.token: candidate for candidate in into}
    for candidate in more:
        twin = known.get(candidate.guess.token)
        if twin is None:
            known[candidate.guess.token] = candidate
            into.append(candidate)
        else:
            merge(twin.below, candidate.below)
