"""How a session may draft: the default that adapts, and the fixed ways of the literature beside it.

They run on the same session, protocol and verifier, so that they can be compared. Pure.
"""

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class DraftingPolicy:
    """What a session may do.

    Attributes:
        name: in the settings.
        drafts: it drafts at all.
        own_guesses: the verifier may check guesses of its own.
        waits_for_drafts: the verifier decodes nothing while drafts may come.
        adapts: it keeps to the price, and rests where drafting does not pay.
        branches: runners-up may be sent beside the first guess.
        least_worth: a guess less likely than this is not sent, however cheap a row is: it takes
            the processors of both sides from better ones.
        block_nodes: so many nodes are sent together; None: each as soon as it is worth its row.
        max_blocks: of these at most so many are outstanding when a new one is begun, that one
            included.
    """

    name: str
    drafts: bool = True
    own_guesses: bool = False
    waits_for_drafts: bool = False
    adapts: bool = False
    branches: bool = False
    least_worth: float = 0.0
    block_nodes: int | None = None
    max_blocks: int = 1

    def most_nodes(self, credit: int) -> int:
        """How many nodes may be outstanding where the verifier allows so many."""
        if self.block_nodes is None:
            return credit
        return min(credit, self.block_nodes * self.max_blocks)

    def with_block(self, num_nodes: int) -> "DraftingPolicy":
        """The same with blocks of another length, where it has blocks at all."""
        return self if self.block_nodes is None else replace(self, block_nodes=num_nodes)

    def may_draft(self, num_unsent: int, num_outstanding: int) -> bool:
        """Whether one more node may be drafted.

        Args:
            num_unsent: live nodes that wait to be sent.
            num_outstanding: all live nodes, these included.
        """
        if self.block_nodes is None:
            return self.drafts
        num_under_way = num_outstanding - num_unsent
        may_begin = num_under_way <= self.block_nodes * (self.max_blocks - 1)
        return num_unsent < self.block_nodes and (num_unsent > 0 or may_begin)

    def may_send(self, num_unsent: int) -> bool:
        """Whether the nodes that wait are a block."""
        return num_unsent >= (self.block_nodes or 1)


AUTO: Final = DraftingPolicy("auto", own_guesses=True, adapts=True, branches=True, least_worth=0.01)

POLICIES: Final = {
    policy.name: policy
    for policy in (
        AUTO,
        DraftingPolicy("tree", branches=True, least_worth=0.01),
        DraftingPolicy("chain"),
        DraftingPolicy("one-ahead", block_nodes=4, max_blocks=2),
        DraftingPolicy("stop-and-wait", waits_for_drafts=True, block_nodes=4),
        DraftingPolicy("cloud", drafts=False),
        DraftingPolicy("cloud-lookup", drafts=False, own_guesses=True),
    )
}
"""`tree` and `chain` stream without end; `one-ahead` drafts a block while another is verified (as
in SPEED, arXiv:2310.12072); `stop-and-wait` drafts when nothing is under way, and the verifier
decodes nothing meanwhile (Leviathan et al., arXiv:2211.17192). `cloud` leaves everything to the
verifier, `cloud-lookup` likewise, with guesses of its own.
"""
