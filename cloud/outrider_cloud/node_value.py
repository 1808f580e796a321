"""How likely draft nodes of one session are right: the chance that a checked level is accepted.

Learnt from what passes accepted, forgotten slowly, and given another chance when it was long not
checked. Pure. Knows nothing of trees, of what a row costs, or of the edge's own estimates.
"""

from typing import Final

_MEMORY_LEVELS: Final = 64.0
"""Checked levels after which an observation counts for 1/e."""

_MEMORY_RESTS: Final = 64.0
"""Passes without drafts after which the evidence counts for 1/e."""

_PRIOR_LEVELS: Final = 2.0
"""The prior counts as much as this many checked levels: few, so that it gives way soon."""


class NodeValue:
    """Estimates a session's acceptance per level.

    A level is accepted with chance a, given that all above it were: a node `depth` levels below the
    frontier is committed with chance a^depth (Leviathan et al., arXiv 2211.17192, section 3.1). The
    estimate is the mean of a Beta posterior whose counts fade,

        a = (accepted + w * prior) / (checked + w),    w = 2 levels,

    so it lies strictly between 0 and 1. Of a pass that accepted k of n levels, k + 1 were really
    tried (n, if all were accepted): what lies below a rejected level says nothing.

    A node is refused while its value is below the price, and then nothing would ever be learnt
    again. So `rest` fades the evidence: the estimate returns to the prior, and where that is worth
    the price, nodes are tried anew. At a price of 0.47, a drafter that is always wrong then costs
    one row in about 45 passes.

    Args:
        prior_acceptance: the acceptance per level before anything was observed, between 0 and 1
            exclusively. Choose it above the usual price: a session is probed only where it is.

    Raises:
        ValueError: `prior_acceptance` is out of range.
    """

    def __init__(self, prior_acceptance: float = 0.7) -> None:
        if not 0 < prior_acceptance < 1:
            raise ValueError(f"prior_acceptance is {prior_acceptance}; set it above 0 and below 1.")
        self._prior = prior_acceptance
        self._checked = 0.0  # levels, faded
        self._accepted = 0.0  # of those

    @property
    def acceptance(self) -> float:
        """The estimated chance that a level is accepted if all above it were."""
        weight = self._checked + _PRIOR_LEVELS
        return (self._accepted + _PRIOR_LEVELS * self._prior) / weight

    def observe(self, num_accepted: int, num_levels: int) -> None:
        """Learn from a pass that checked drafts.

        Args:
            num_accepted: levels that were accepted, from the frontier down.
            num_levels: levels that were checked.

        Raises:
            ValueError: not 0 <= num_accepted <= num_levels, or no level at all.
        """
        if num_levels < 1 or not 0 <= num_accepted <= num_levels:
            raise ValueError(
                f"{num_accepted} of {num_levels} levels accepted; a pass checks at least one level "
                "and accepts none to all of them."
            )
        num_tried = min(num_accepted + 1, num_levels)
        self._fade((1 - 1 / _MEMORY_LEVELS) ** num_tried)
        self._checked += num_tried
        self._accepted += num_accepted

    def rest(self) -> None:
        """Learn from a pass that checked no drafts: what was known is a little older."""
        self._fade(1 - 1 / _MEMORY_RESTS)

    def _fade(self, share_kept: float) -> None:
        self._checked *= share_kept
        self._accepted *= share_kept
