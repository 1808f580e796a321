"""A draft model without weights: logits are a hash of the whole text so far.

Any mistake in following the context therefore changes what it drafts.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from outrider_edge.row_tree import MAX_ROWS, TEXT_END, renumbered


class FakeSequence:
    """Remembers its tokens; counts how many it was fed, and in how many passes."""

    def __init__(
        self,
        vocab_size: int,
        max_positions: int,
        token_ids: NDArray[np.int64] | None = None,
    ) -> None:
        self.tokens: list[int] = []  # the text
        self.row_tokens: list[int] = []
        self.row_parents: list[int] = []
        self.num_fed = 0
        self.num_passes = 0
        self.longest_input = 0
        self._vocab_size = vocab_size
        self._max_positions = max_positions
        self._token_ids = token_ids

    @property
    def length(self) -> int:
        return len(self.tokens)

    def path(self, row: int) -> list[int]:
        """The tokens from the end of the text to a row."""
        if row == TEXT_END:
            return []
        return [*self.path(self.row_parents[row]), self.row_tokens[row]]

    def forward(
        self, tokens: Sequence[int], *, num_logits: int | None = None
    ) -> NDArray[np.float32]:
        assert not self.row_tokens
        first = self.length
        self._count(tokens)
        self.tokens += tokens
        wanted = len(tokens) if num_logits is None else min(num_logits, len(tokens))
        ends = range(first + len(tokens) - wanted, first + len(tokens))
        return self._logits([self.tokens[: end + 1] for end in ends])

    def forward_rows(
        self, tokens: Sequence[int], parents: Sequence[int], wanted: Sequence[int]
    ) -> NDArray[np.float32]:
        assert list(wanted) == sorted(set(wanted))
        self._count(tokens)
        first = len(self.row_tokens)
        for token, parent in zip(tokens, parents, strict=True):
            assert TEXT_END <= parent < len(self.row_tokens) < MAX_ROWS
            self.row_tokens.append(token)
            self.row_parents.append(parent)
        return self._logits([self.tokens + self.path(first + row) for row in wanted])

    def keep(self, rows: Sequence[int], num_text: int = 0) -> None:
        kept = renumbered(self.row_parents, rows, num_text)
        self.tokens += [self.row_tokens[row] for row in rows[:num_text]]
        self.row_tokens = [self.row_tokens[row] for row in rows[num_text:]]
        self.row_parents = kept

    def truncate(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]
        self.keep(())

    def _count(self, tokens: Sequence[int]) -> None:
        assert len(self.tokens) + len(self.row_tokens) + len(tokens) <= self._max_positions
        assert tokens
        assert all(0 <= token < self._vocab_size for token in tokens)
        self.num_fed += len(tokens)
        self.num_passes += 1
        self.longest_input = max(self.longest_input, len(tokens))

    def _logits(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        rows = np.empty((len(texts), self._vocab_size), np.float32)
        for row, text in zip(rows, texts, strict=True):
            seed = zlib.crc32(repr(list(text)).encode())
            row[:] = np.random.default_rng(seed).normal(0, 3, self._vocab_size)
        return rows if self._token_ids is None else rows[:, self._token_ids]


class FakeDraftModel:
    """Makes `FakeSequence`s and remembers them. With `token_ids` it has logits of these only."""

    def __init__(
        self,
        vocab_size: int,
        max_positions: int = 512,
        token_ids: NDArray[np.int64] | None = None,
    ) -> None:
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self.token_ids = token_ids
        self.sequences: list[FakeSequence] = []

    def new_sequence(self) -> FakeSequence:
        self.sequences.append(FakeSequence(self.vocab_size, self.max_positions, self.token_ids))
        return self.sequences[-1]
