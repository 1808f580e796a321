"""What the draft nodes of one session are worth where some have siblings: by rank among these.

An edge sends its best guess for a position first, then its runners-up. Which of them is right is
learnt for each rank by itself, so that a runner-up is not taken for as good as the first guess.
Pure. Knows nothing of trees, of what a row costs, or of the edge's own estimates.
"""

from typing import Final

from outrider_cloud.node_value import NodeValue

PRIORS: Final = (0.7, 0.15, 0.08, 0.04)
"""Of each rank the chance of being right before anything was observed: each runner-up takes about
half of what is left, as in a quantised copy of its target. Later ones are as good as the last."""


class RankedValue:
    """Estimates for each rank the chance that a node is right if its parent is; see `NodeValue`."""

    def __init__(self) -> None:
        self._by_rank = [NodeValue(prior) for prior in PRIORS]

    def chances(self) -> tuple[float, ...]:
        """The chance of each rank, 0 for an edge's first guess; none above that of the one before.

        So of siblings the earlier is never left out for a later one: draws must keep their order.
        """
        chances: list[float] = []
        for value in self._by_rank:
            chances.append(min([value.acceptance, *chances[-1:]]))
        return tuple(chances)

    def observe(self, num_offered: int, right: int | None) -> None:
        """Learn from a position that drafts were checked for, where all above it was right.

        What is known of ranks that had no row grows older, so that they are tried again some time.

        Args:
            num_offered: how many siblings were checked, the first of all ranks.
            right: the rank of the one that was right; None: none of them.
        """
        for rank, value in enumerate(self._by_rank[:num_offered]):
            value.observe(int(rank == right), 1)
        for value in self._by_rank[num_offered:]:
            value.rest()

    def rest(self) -> None:
        """Learn from a pass that checked no drafts: what was known is a little older."""
        for value in self._by_rank:
            value.rest()
