"""The cached text and tree of one sequence of a draft model: asks it for the logits after paths.

Knows what the cache holds, what to feed and what to forget; knows nothing of the runtime that
computes the logits (`DraftModel` is its seam), nor of what becomes of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider_common.sampling import Ids
from outrider_edge.cached_tree import CachedTree
from outrider_edge.draft_columns import below
from outrider_edge.growing_text import GrowingText
from outrider_edge.prefix import common_prefix_length
from outrider_edge.row_tree import MAX_ROWS, TEXT_END

Logits = NDArray[np.floating[Any]]

FEED_CHUNK_TOKENS: Final = 128
"""Longer inputs are fed in pieces, so that the memory of one pass stays bounded."""

LONGEST_STEM: Final = 16
"""So many tokens of the text that are not cached are computed in one pass with the branches."""


class DraftSequence(Protocol):
    """One KV cache of a draft model: a text and, behind it, rows that are a small tree.

    Rows are numbered from 0, over all passes since `keep` or `truncate`; see `row_tree`.
    """

    @property
    def length(self) -> int:
        """How many tokens the cached text has."""
        ...

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Logits:
        """Append `tokens` to the text; returns the logits of the last `num_logits` of them.

        None: of all. The result is [num_logits or len(tokens), vocab]. There must be no rows.
        """
        ...

    def forward_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> Logits:
        """Append rows; returns the logits of those with the ascending indices `wanted` in `tokens`.

        The parent of a row is the number of an earlier one, or `TEXT_END`. The result is
        [len(wanted), vocab], and valid until the next call.
        """
        ...

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        """Make the first `num_text` of some ascending rows text, keep the others, forget the rest.

        Row `rows[num_text + i]` becomes row i.
        """
        ...

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens of the text, and no rows."""
        ...


class DraftModel(Protocol):
    """The weights of a draft model, shared by all sequences."""

    @property
    def vocab_size(self) -> int:
        """How many tokens it can read."""
        ...

    @property
    def token_ids(self) -> Ids | None:
        """Of which token each logit is, ascending; None: the i-th of token i."""
        ...

    @property
    def max_positions(self) -> int:
        """How many tokens a sequence may hold."""
        ...

    def new_sequence(self) -> DraftSequence:
        """An empty sequence."""
        ...


@dataclass(frozen=True, slots=True)
class PathLogits:
    """The logits after some paths, of one pass; valid until the next.

    Attributes:
        rows: [n, vocab].
        of_path: for each path which of the rows are its own: the one after its last token, then
            those after the probes below it, as many as had room. Empty: the path cannot be read.
    """

    rows: Logits
    of_path: list[list[int]]

    def at(self, level: int) -> list[Logits | None]:
        """For each path the logits after its last token (0) or after a probe; None: there are none.

        Each is [vocab].
        """
        return [self.rows[own[level]] if level < len(own) else None for own in self.of_path]


class DraftCache:
    """What is cached of one generation, brought from each question to the next.

    Attributes:
        token_ids: of which tokens the logits are, ascending; None: the i-th of token i.
        num_logits: how many there are of each place.

    Args:
        model: whose sequence it is.
        vocab_size: of the target: other tokens are neither read nor guessed.
    """

    def __init__(self, model: DraftModel, vocab_size: int) -> None:
        self._vocab_size = min(vocab_size, model.vocab_size)
        self.token_ids = below(model.token_ids, self._vocab_size)
        self.num_logits = self._vocab_size if self.token_ids is None else len(self.token_ids)
        self._max_positions = model.max_positions
        self._sequence = model.new_sequence()
        self._text: list[int] = []  # as it is cached
        self._known: Sequence[int] = ()  # a text that begins with what is cached
        self._tree = CachedTree()  # the rows behind it

    def next_logits(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], probes: Sequence[int] = ()
    ) -> PathLogits:
        """The logits after each path behind a text, from one pass over what is not cached.

        Rows whose path disagrees with `text` are forgotten. A path cannot be read that is longer
        than the model can read or the cache can hold besides the paths before it, or that has a
        token which the model lacks.

        Args:
            text: at least one token.
            paths: each behind the text.
            probes: tokens below the end of every path, each following the one before it, which are
                computed for their logits and never stay in the cache.
        """
        shared = self._num_shared(text)
        pending = list(text[shared:-1])
        longest = self._max_positions - len(text) + 1 if self._has_all(pending) else 0
        branches = [[text[-1], *path] for path in paths]
        can_read = [len(b) <= longest and self._has_all(b) for b in branches]
        if not any(can_read):
            return self._nothing(len(paths))
        stem = self._follow(pending, shared)
        self._known = text
        whole = [stem + branch if ok else [] for branch, ok in zip(branches, can_read, strict=True)]
        self._make_room(whole, len(probes))
        return self._compute(whole, probes)

    def _num_shared(self, text: Sequence[int]) -> int:
        """How many tokens a text, but for its last, has in common with what is cached.

        A text that has only grown since need not be compared again: touching each of a thousand
        tokens costs as much as ranking.
        """
        if isinstance(text, GrowingText) and text.is_of_the_list_of(self._known):
            return min(len(self._text), len(text) - 1)
        return common_prefix_length(self._text, list(text[:-1]))

    def _has_all(self, tokens: list[int]) -> bool:
        return max(tokens, default=0) < self._vocab_size

    def _follow(self, pending: list[int], shared: int) -> list[int]:
        """Bring the cached text to a new one; returns its last tokens that are not yet computed.

        Rows on the way become text, and what does not hang from its end is forgotten.

        Args:
            pending: what follows the shared tokens.
            shared: how many cached tokens are those of the new text.
        """
        if shared < len(self._text):
            self._truncate(shared)
        if not pending:
            return []
        known = self._tree.walk(pending)
        is_whole = len(known) == len(pending)
        self._keep(known + (self._tree.below(known[-1]) if is_whole else []), len(known))
        self._text += pending[: len(known)]
        return self._feed(pending[len(known) :])

    def _feed(self, pending: list[int]) -> list[int]:
        """Append to the cached text, unless it is so little that it can go with the branches."""
        if len(pending) <= LONGEST_STEM and self._text:
            return pending
        for start in range(0, len(pending), FEED_CHUNK_TOKENS):
            self._sequence.forward(pending[start : start + FEED_CHUNK_TOKENS], num_logits=0)
        self._text += pending
        return []

    def _make_room(self, branches: Sequence[list[int]], num_probes: int) -> None:
        """Forget rows that are on no branch, if what is to come would not fit beside them."""
        known = [self._tree.walk(branch) for branch in branches]
        needed = sum(
            (len(branch) - len(rows) or 1) + num_probes
            for branch, rows in zip(branches, known, strict=True)
            if branch
        )
        if needed > self._room:
            # A leaf that is cached is computed again: better in its place than beside it.
            above = zip(branches, known, strict=True)
            self._keep(sorted({row for branch, rows in above for row in rows[: len(branch) - 1]}))

    def _compute(self, branches: Sequence[list[int]], probes: Sequence[int]) -> PathLogits:
        """One pass over what is not cached of the branches, and over the probes below them."""
        first = self._tree.num_rows
        ends = [self._append(branch, first) for branch in branches]
        leaves = sorted({end for end in ends if end is not None})
        if not leaves:
            return self._nothing(len(branches))
        rows = _Rows(first, *self._tree.since(first), wanted=[leaf - first for leaf in leaves])
        own = {leaf: [i] for i, leaf in enumerate(leaves)}
        # No path has more tokens than there are rows: where there is room, there are positions.
        num_left = self._room
        for leaf in leaves:
            chain = rows.append_chain(leaf, probes[:num_left])
            own[leaf] += chain
            num_left -= len(chain)
        logits = self._sequence.forward_rows(rows.tokens, rows.parents, rows.wanted)
        if len(rows.wanted) > len(leaves):
            self._sequence.keep(range(self._tree.num_rows))  # but not the probes
        of_path = [[] if end is None else own[end] for end in ends]
        return PathLogits(logits[:, : self.num_logits], of_path)

    def _nothing(self, num_paths: int) -> PathLogits:
        return PathLogits(np.empty((0, self.num_logits), np.float32), [[]] * num_paths)

    def _append(self, branch: list[int], first: int) -> int | None:
        """Add what is not cached of a branch; returns the row of its end, None if it has no room.

        The end is computed again if that was in an earlier pass: its row is below `first`.
        """
        rows = self._tree.walk(branch)
        if rows and len(rows) == len(branch):
            if rows[-1] >= first:
                return rows[-1]
            rows.pop()
        missing = branch[len(rows) :]
        if not missing or len(missing) > self._room:
            return None
        row = rows[-1] if rows else TEXT_END
        for token in missing:
            row = self._tree.append(token, row)
        return row

    @property
    def _room(self) -> int:
        """How many more rows the cache can hold."""
        num_rows = self._tree.num_rows
        return min(MAX_ROWS, self._max_positions - len(self._text)) - num_rows

    def _truncate(self, length: int) -> None:
        self._sequence.truncate(length)
        self._tree.keep(())
        del self._text[length:]

    def _keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        self._sequence.keep(rows, num_text)
        self._tree.keep(rows, num_text)


@dataclass(slots=True)
class _Rows:
    """The rows of one pass.

    Attributes:
        first: the number of the first.
        tokens: of each.
        parents: numbers of rows, of this pass or of earlier ones.
        wanted: indices of those whose logits are wanted.
    """

    first: int
    tokens: list[int]
    parents: list[int]
    wanted: list[int]

    def append_chain(self, parent: int, tokens: Sequence[int]) -> list[int]:
        """Add rows whose logits are wanted, each below the one before; returns which are theirs."""
        num_wanted = len(self.wanted)
        for token in tokens:
            self.wanted.append(len(self.tokens))
            self.tokens.append(token)
            self.parents.append(parent)
            parent = self.first + self.wanted[-1]
        return list(range(num_wanted, len(self.wanted)))
