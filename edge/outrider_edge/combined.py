"""Several proposers in a row: the first that has something to say is heard.

List the cheap ones first: what retrieval finds costs no model step. Knows nothing of how the
proposers work.
"""

from collections.abc import Sequence

from outrider_edge.proposer import Draft, DraftingTask, Proposer, ProposerFactory


class CombinedProposer:
    """Asks its proposers in order and returns the first draft that is not empty."""

    def __init__(self, proposers: Sequence[Proposer]) -> None:
        self._proposers = tuple(proposers)

    def propose(self, context: Sequence[int], max_tokens: int) -> Draft:
        """The first proposer's draft that is not empty; the later ones are not asked."""
        for proposer in self._proposers:
            draft = proposer.propose(context, max_tokens)
            if draft.tokens:
                return draft
        return Draft()


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
        return CombinedProposer([factory.start(task) for factory in self._factories])
