"""The seam between the verifier and whatever computes the target model.

A target holds the weights and the pages of the KV cache. A pass computes segments: rows that follow
the cached text of one sequence, each a node of a small tree. Which pages belong to whom is told
with every pass. Knows nothing of sessions, acceptance or the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from outrider_cloud.choice import PassLogits
from outrider_cloud.paged_sequence import Move

CACHED_TEXT: Final = -1
"""The parent index of a row that directly follows the cached text."""


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

    @property
    def num_logits_rows(self) -> int:
        """For how many rows logits are wanted."""
        return len(self.tokens) - self.first_logits_row

    @property
    def is_chain(self) -> bool:
        """Whether each row follows the one before it."""
        return self.parents == tuple(range(CACHED_TEXT, len(self.parents) - 1))

    def depths(self) -> list[int]:
        """For each row how many rows its path has above it."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent == CACHED_TEXT else depths[parent] + 1)
        return depths


@dataclass(frozen=True, slots=True)
class Segment:
    """The part of a pass that belongs to one sequence; a sequence has at most one in a pass.

    Attributes:
        pages: the sequence's page table, with room for text and rows.
        length: tokens of text that are cached; the rows are written behind them, in their order.
        rows: what to compute.
    """

    pages: Sequence[int]
    length: int
    rows: Rows


@dataclass(frozen=True, slots=True)
class CacheShape:
    """The KV cache of a target.

    Attributes:
        num_pages: pages of all sequences together.
        page_tokens: tokens that a page has room for.
        bytes_per_page: keys and values of all layers.
    """

    num_pages: int
    page_tokens: int
    bytes_per_page: int


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

    @property
    def cache_shape(self) -> CacheShape:
        """How many pages there are, and how large they are."""
        ...

    def forward(self, segments: Sequence[Segment]) -> PassLogits:
        """Compute the rows of several sequences in one pass, and cache their keys and values.

        Returns:
            The logits of the wanted rows of all segments, behind one another.
        """
        ...

    def move(self, moves: Sequence[Move]) -> None:
        """Copy what is cached, one slot after the other."""
        ...
