"""What a drafter would gain on texts of its target, from the ranks of the target's tokens.

The rank of a token is its place among the drafter's guesses, 0 for the first. As a guess depends
on the text before it alone, ranks along the target's text say exactly what chains and trees would
have had accepted. Pure.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ranks = NDArray[np.int64]
"""For each token of an answer its rank among the guesses, [tokens]."""

BlockRanks = NDArray[np.int64]
"""For each place of an answer the ranks of the next K tokens, from one pass: [tokens, K]."""

BEYOND_THE_END: Final = -1
"""The rank of a token that an answer has no more."""

MOST_GUESSES: Final = 8
"""Ranks from here on are not told apart."""

POSITIONS: Final = 8
"""For so many positions of a drafted chain the acceptance is told apart."""


def share_in_first(texts: Sequence[Ranks], num_guesses: int) -> float:
    """How often the target's token is among the first guesses."""
    ranks = np.concatenate(texts)
    return float((ranks < num_guesses).mean())


def acceptance_per_position(texts: Sequence[Ranks], length: int = POSITIONS) -> list[float]:
    """For chains of a length: how often the first, the second, ... token of a draft is accepted.

    Under vLLM's definition: accepted tokens at a position over all drafts that were long enough.
    """
    accepted, drafts = np.zeros(length), np.zeros(length)
    for ranks in texts:
        begin = 0
        while begin < len(ranks):
            run = _run(ranks, begin, length)
            accepted[:run] += 1
            drafts[: len(ranks) - begin] += 1
            begin += run + 1
    return [float(a / d) for a, d in zip(accepted, drafts, strict=True) if d]


def chain_tokens_per_pass(texts: Sequence[Ranks], length: int) -> float:
    """Tokens that a pass commits, the correction counted, if a chain of a length is drafted."""
    num_passes = 0
    for ranks in texts:
        begin = 0
        while begin < len(ranks):
            begin += _run(ranks, begin, length) + 1
            num_passes += 1
    return sum(map(len, texts)) / num_passes


def _run(ranks: Ranks, begin: int, length: int) -> int:
    """How many first guesses in a row are right."""
    run = 0
    for rank in ranks[begin : begin + length]:
        if rank:
            break
        run += 1
    return run


@dataclass(frozen=True, slots=True)
class TreeShape:
    """A tree of guesses. Node 0 is the frontier.

    Attributes:
        children: of each node its children, that of rank 0 first.
    """

    children: tuple[tuple[int, ...], ...]


def best_tree(shares: Sequence[float], num_nodes: int) -> TreeShape:
    """The tree of most expected accepted tokens, if guesses of a rank are right independently.

    Takes the node of the greatest product of acceptances along its path again and again (Chen et
    al. 2024, "Sequoia", arXiv:2402.12374).

    Args:
        shares: how often the guess of each rank is right, falling.
        num_nodes: of the tree, the frontier not counted.
    """
    children: list[list[int]] = [[]]
    waiting = [(-shares[0], 0, 0, 1.0)]  # value, parent, rank, value of the parent
    while len(children) <= num_nodes and waiting:
        value, parent, rank, above = heapq.heappop(waiting)
        node = len(children)
        children.append([])
        children[parent].append(node)
        heapq.heappush(waiting, (value * shares[0], node, 0, -value))
        if rank + 1 < len(shares):
            heapq.heappush(waiting, (-above * shares[rank + 1], parent, rank + 1, above))
    return TreeShape(tuple(tuple(nodes) for nodes in children))


def tree_tokens_per_pass(texts: Sequence[Ranks], tree: TreeShape) -> float:
    """Tokens that a pass commits, the correction counted, if such a tree is drafted each time."""
    num_passes = 0
    for ranks in texts:
        begin = 0
        while begin < len(ranks):
            begin += _depth_reached(ranks, begin, tree) + 1
            num_passes += 1
    return sum(map(len, texts)) / num_passes


def _depth_reached(ranks: Ranks, begin: int, tree: TreeShape) -> int:
    node = depth = 0
    for rank in ranks[begin:]:
        if rank >= len(tree.children[node]):
            break
        node = tree.children[node][rank]
        depth += 1
    return depth


def block_shares(texts: Sequence[BlockRanks]) -> list[float]:
    """How often the first, the second, ... first guess of a pass is right, whatever the others."""
    ranks = np.concatenate(texts)
    return [float((column[column != BEYOND_THE_END] == 0).mean()) for column in ranks.T]


def block_runs(texts: Sequence[BlockRanks]) -> list[float]:
    """How often the first 1, 2, ..., K first guesses of a pass are all right."""
    ranks = np.concatenate(texts)
    are_right = np.logical_and.accumulate(ranks == 0, axis=1)
    columns = zip(are_right.T, ranks.T, strict=True)
    return [float(right[rank != BEYOND_THE_END].mean()) for right, rank in columns]


def block_rescued(texts: Sequence[BlockRanks], num_guesses: int) -> float:
    """Where not all first guesses of a pass are right: how often the token is a later guess."""
    ends = np.concatenate([_first_miss(row) for ranks in texts for row in ranks])
    return float((ends < num_guesses).mean()) if len(ends) else 0.0


def _first_miss(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank that is the first not to be 0, or nothing."""
    return row[row > 0][:1]


def block_tokens_per_pass(texts: Sequence[BlockRanks]) -> float:
    """Tokens that a pass commits, the correction counted, if one block is drafted each time."""
    num_passes = 0
    for ranks in texts:
        begin = 0
        while begin < len(ranks):
            begin += _run(ranks[begin], 0, ranks.shape[1]) + 1
            num_passes += 1
    return sum(map(len, texts)) / num_passes
