"""The seam between the verifier and whatever computes the target model.

A target holds the weights and the pages of the KV cache. A pass computes segments: rows that follow
the cached text of one sequence, each a node of a small tree. Which pages belong to whom is told
with every pass. Knows nothing of sessions, acceptance or the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from outrider_cloud.choice import PassLogits
from outrider_cloud.paged_sequence import Move

CACHED_TEXT: Final = -1
"""The parent index of a row that directly follows the cached text."""

CPU_KV_CACHE_MIB: Final = 1024
"""Of the KV cache on a CPU, unless told otherwise."""


class DeviceLostError(Exception):
    """The target can compute nothing more, for anybody, until the process has begun anew."""


class Rows(NamedTuple):
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


class Segment(NamedTuple):
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


class RunningPass(Protocol):
    """A pass that was launched: the host may do something else until it needs the result."""

    def result(self) -> PassLogits:
        """The logits of the wanted rows of all segments, behind one another.

        Waits until the pass has ended, unless the logits themselves can be waited for: then that is
        left to whoever reads them. Called once. Raises whatever has made the pass fail; where
        no other can be computed either, a `DeviceLostError`, as reading the logits then does, too.
        """
        ...


class Target(Protocol):
    """A target model. Runs one pass at a time: the next is begun when the last has its result."""

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

    def begin(self, segments: Sequence[Segment]) -> RunningPass:
        """Start to compute the rows of several sequences, and to cache their keys and values.

        The segments have been read when this returns; their pages stay theirs until the result is
        there.
        """
        ...

    def forward(self, segments: Sequence[Segment]) -> PassLogits:
        """`begin` a pass and wait for its result: for when there is nothing to do meanwhile."""
        ...

    def move(self, moves: Sequence[Move]) -> None:
        """Copy what is cached, one slot after the other."""
        ...
