"""Guesses for tests, written in one line."""

from outrider_common.acceptance import SparseDistribution
from outrider_edge.calibration import GuessKind
from outrider_edge.guesses import Candidate, Guess

KIND = GuessKind("lm", rank=0, depth=1)


def guessed(
    token: int, chance: float, *below: Candidate, source: SparseDistribution | None = None
) -> Candidate:
    """A guess of this chance, and what hangs from it."""
    return Candidate(Guess(token, KIND, chance, chance, source), list(below))
