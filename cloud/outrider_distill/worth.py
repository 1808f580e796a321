"""What a drafter is worth on some answers, from the ranks of their tokens. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from outrider_distill.speculation import (
    MOST_GUESSES,
    BlockRanks,
    Ranks,
    acceptance_per_position,
    best_tree,
    block_rescued,
    block_runs,
    block_shares,
    block_tokens_per_pass,
    chain_tokens_per_pass,
    share_in_first,
    tree_tokens_per_pass,
)

FIRST: Final = (1, 2, 4, 8)
CHAINS: Final = (1, 2, 4, 8)
TREES: Final = (4, 8, 16)
RESCUING_GUESSES: Final = 4


@dataclass(frozen=True, slots=True)
class BlockWorth:
    """What the passes of a drafter are worth that says several tokens in one.

    Attributes:
        shares: how often its first, second, ... token is right, whatever the others are.
        runs: how often its first 1, 2, ... tokens are all right.
        rescued: where not all are, how often the first that is not has the target's token among
            its later guesses.
        tokens_per_pass: that the verifier commits if one block is drafted every time.
    """

    shares: list[float]
    runs: list[float]
    rescued: float
    tokens_per_pass: float

    @classmethod
    def of(cls, texts: Sequence[BlockRanks]) -> "BlockWorth":
        """Judge by the ranks of the target's tokens, answer by answer."""
        return cls(
            block_shares(texts),
            block_runs(texts),
            block_rescued(texts, RESCUING_GUESSES),
            block_tokens_per_pass(texts),
        )


@dataclass(frozen=True, slots=True)
class Worth:
    """What a drafter is worth on some answers, token by token.

    Attributes:
        num_tokens: that were guessed.
        acceptance: how often the first guess is the target's token.
        in_first: the same for the first 1, 2, 4, 8 guesses, by their number.
        per_position: of a drafted chain.
        chain: tokens that a pass commits, by the length of the chain.
        tree: tokens that a pass commits, by the nodes of the tree.
        block: of its passes, where they say several tokens; None: they say one.
    """

    num_tokens: int
    acceptance: float
    in_first: dict[str, float]
    per_position: list[float]
    chain: dict[str, float]
    tree: dict[str, float]
    block: BlockWorth | None = None

    @classmethod
    def of(cls, texts: Sequence[Ranks], blocks: Sequence[BlockRanks] = ()) -> "Worth":
        """Judge by the ranks of the target's tokens, answer by answer."""
        in_first = [share_in_first(texts, count) for count in range(MOST_GUESSES + 1)]
        shares = np.diff(in_first).tolist()
        trees = {nodes: best_tree(shares, nodes) for nodes in TREES}
        return cls(
            num_tokens=sum(map(len, texts)),
            acceptance=in_first[1],
            in_first={str(count): in_first[count] for count in FIRST},
            per_position=acceptance_per_position(texts),
            chain={str(length): chain_tokens_per_pass(texts, length) for length in CHAINS},
            tree={str(nodes): tree_tokens_per_pass(texts, tree) for nodes, tree in trees.items()},
            block=BlockWorth.of(blocks) if blocks else None,
        )

    @property
    def runs(self) -> Sequence[float]:
        """How often the first 1, 2, ... tokens of a draft pass are all right."""
        return self.block.runs if self.block else (self.acceptance,)

    @property
    def rescued(self) -> float:
        """How often the target's token is a later guess where it is not the first."""
        if self.block:
            return self.block.rescued
        missed = 1 - self.acceptance
        return (self.in_first[str(RESCUING_GUESSES)] - self.acceptance) / missed if missed else 0.0
