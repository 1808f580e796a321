"""The seam between the verifier and whatever computes the target model.

A target holds the weights; a target sequence holds the KV cache of one session and computes rows:
tokens that follow the cached text, each a node of a small tree. Knows nothing of sessions,
acceptance or the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

CACHED_TEXT: Final = -1
"""The parent index of a row that directly follows the cached text."""

Logits = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """The tokens of one sequence that one pass computes.

    Attributes:
        tokens: token ids, parents before their children.
        parents: for each row the index of its parent row, or `CACHED_TEXT`.
        first_logits_row: logits are wanted from this row on; prefill needs none of the earlier.
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    first_logits_row: int = 0

    @classmethod
    def chain(cls, tokens: Sequence[int], *, first_logits_row: int = 0) -> "Rows":
        """Rows of which each follows the one before it."""
        parents = tuple(range(CACHED_TEXT, len(tokens) - 1))
        return cls(tuple(tokens), parents, first_logits_row)

    def depths(self) -> list[int]:
        """For each row how many rows its path has above it."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent == CACHED_TEXT else depths[parent] + 1)
        return depths


class TargetSequence(Protocol):
    """The KV cache of one session."""

    @property
    def length(self) -> int:
        """How many tokens of text the cache holds; the rows of a pass count once they are kept."""
        ...

    def keep(self, row_indices: Sequence[int]) -> None:
        """Of the rows of the last pass keep these as text, in this order, and drop the others."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a pass that belongs to one sequence; a sequence has at most one in a pass."""

    sequence: TargetSequence
    rows: Rows


class Target(Protocol):
    """A target model."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    @property
    def max_positions(self) -> int:
        """The most tokens of one sequence."""
        ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ids that end a generation."""
        ...

    def new_sequence(self) -> TargetSequence:
        """An empty KV cache."""
        ...

    def forward(self, segments: Sequence[Segment]) -> list[Logits]:
        """Compute the rows of several sequences in one pass.

        What the rows leave in the caches counts only after `TargetSequence.keep`; until then, and
        also after an error, another pass over the same sequence starts where the text ends.

        Returns:
            For each segment logits of shape [len(rows.tokens) - rows.first_logits_row, vocab],
            float32.
        """
        ...
