"""Trees of a fixed shape, which every drafting policy has to beat, and what they commit.

A shape says which ranks are drafted: (0, 0, 1) is the drafter's second guess behind its first one
twice. How a shape fares follows from the ranks of the target's own tokens. Knows nothing of models.
"""

import heapq
from collections.abc import Sequence

Path = tuple[int, ...]
Shape = frozenset[Path]


def chain(length: int) -> Shape:
    """The drafter's first guesses, one behind the other."""
    return frozenset((0,) * depth for depth in range(1, length + 1))


def best_tree(shares: Sequence[float], num_nodes: int) -> Shape:
    """The shape with most expected tokens where ranks are independent of each other.

    A node counts with the product of the shares of the ranks on its path, so the best shape is that
    of the largest products (as in Sequoia, arXiv:2402.12374).

    Args:
        shares: of each rank, how often the target's token has it.
        num_nodes: of the shape.
    """
    shape: set[Path] = set()
    queue: list[tuple[float, Path]] = [(-share, (rank,)) for rank, share in enumerate(shares)]
    heapq.heapify(queue)
    while len(shape) < num_nodes:
        worth, path = heapq.heappop(queue)
        shape.add(path)
        for rank, share in enumerate(shares):
            heapq.heappush(queue, (worth * share, (*path, rank)))
    return frozenset(shape)


def num_passes(shape: Shape, ranks: Sequence[int]) -> int:
    """How many passes an answer takes with this shape drafted before each of them.

    Args:
        shape: what is drafted.
        ranks: of each token of the answer among the drafter's guesses for its position.
    """
    passes = position = 0
    while position < len(ranks):
        path: Path = (ranks[position],)
        while path in shape and position + len(path) < len(ranks):
            path = (*path, ranks[position + len(path)])
        position += len(path)
        passes += 1
    return passes


def rank_shares(answers: Sequence[Sequence[int]], num_ranks: int) -> list[float]:
    """How often tokens have each rank below `num_ranks`, over the ranks of some answers."""
    ranks = [rank for answer in answers for rank in answer]
    return [ranks.count(rank) / len(ranks) for rank in range(num_ranks)]
