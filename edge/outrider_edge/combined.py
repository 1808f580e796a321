"""Several proposers in a row: the cheap ones first, the next where those before are in doubt.

What they guess of one leaf becomes one draft without duplicates. Knows nothing of how the proposers
work.
"""

from collections.abc import Sequence
from typing import Final

from outrider_edge.proposer import (
    CONTEXT_END,
    Draft,
    DraftingTask,
    Learner,
    Proposer,
    ProposerFactory,
)

DOUBT: Final = 0.8
"""A proposer that takes its first guess for less likely than this leaves the next one to be asked:
a draft of retrieval on one match of fewer than nine tokens, say."""


class CombinedProposer:
    """Asks its proposers in order, each for the leaves of which those before it are in doubt.

    Args:
        proposers: the cheap ones first, each with its name.
    """

    def __init__(self, proposers: Sequence[tuple[str, Proposer]]) -> None:
        self._proposers = tuple(proposers)
        self._learners = [one for _, one in proposers if isinstance(one, Learner)]

    @property
    def num_runner_ups(self) -> int:
        """As many as the most demanding of them wants."""
        return max((one.num_runner_ups for one in self._learners), default=0)

    def learn(
        self, before: int, tokens: Sequence[int], runner_ups: Sequence[Sequence[int]]
    ) -> None:
        """Pass on what a commit says to those that learn; see `Learner`."""
        for learner in self._learners:
            learner.learn(before, tokens, runner_ups)

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        """For each leaf what was guessed of it, all proposers' guesses as one draft."""
        drafts = [Draft()] * len(paths)
        for name, proposer in self._proposers:
            doubtful = [i for i, draft in enumerate(drafts) if not _is_sure(draft)]
            if not doubtful:
                break
            more = proposer.expand(text, [paths[i] for i in doubtful], max_depth)
            for i, draft in zip(doubtful, more, strict=True):
                drafts[i] = merged(drafts[i], draft.signed(name))
        return drafts


class CombinedFactory:
    """Makes a `CombinedProposer` for each generation. Its name is `retrieval+lm` or alike."""

    def __init__(self, factories: Sequence[ProposerFactory]) -> None:
        self._factories = tuple(factories)

    @property
    def name(self) -> str:
        """The names of the combined proposers, in the order in which they are asked."""
        return "+".join(factory.name for factory in self._factories)

    def start(self, task: DraftingTask) -> CombinedProposer:
        """A proposer that asks a fresh one of each."""
        return CombinedProposer([(f.name, f.start(task)) for f in self._factories])


def merged(one: Draft, other: Draft) -> Draft:
    """Both drafts of one leaf as one: a guess that both make is there once.

    It then counts for what the surer of the two says of it, under that one's name. A guess that was
    drawn stays one: no other guess joins its siblings, for the target would take it for a draw.

    Args:
        one: signed, or empty.
        other: signed, or empty.
    """
    if not one.tokens or not other.tokens:
        return one if one.tokens else other
    if any(one.drawn_from) or any(other.drawn_from):
        return other if any(other.drawn_from) else one
    return _merged_trees(one, other)


def _is_sure(draft: Draft) -> bool:
    return bool(draft.probabilities) and draft.probabilities[0] >= DOUBT


def _merged_trees(one: Draft, other: Draft) -> Draft:
    tokens, parents = list(one.tokens), list(one.parents)
    claims = list(zip(one.probabilities, one.proposers, strict=True))
    known = {place: i for i, place in enumerate(zip(parents, tokens, strict=True))}
    places = {CONTEXT_END: CONTEXT_END}  # of the other's guesses in the merged draft
    for i, (token, parent) in enumerate(zip(other.tokens, other.parents, strict=True)):
        claim = other.probabilities[i], other.proposers[i]
        index = known.setdefault((places[parent], token), len(tokens))
        if index == len(tokens):
            tokens.append(token)
            parents.append(places[parent])
            claims.append(claim)
        claims[index] = max(claims[index], claim)
        places[i] = index
    probabilities, proposers = zip(*claims, strict=True)
    return Draft(tuple(tokens), tuple(parents), probabilities, proposers)
