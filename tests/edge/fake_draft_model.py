"""A draft model without weights: logits are a hash of the whole text so far.

Any mistake in following the context therefore changes what it drafts.
"""

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class FakeSequence:
    """Remembers its tokens; counts how many it was fed."""

    def __init__(self, vocab_size: int, max_positions: int) -> None:
        self.tokens: list[int] = []
        self.num_fed = 0
        self.longest_input = 0
        self._vocab_size = vocab_size
        self._max_positions = max_positions

    @property
    def length(self) -> int:
        return len(self.tokens)

    def forward(
        self, tokens: Sequence[int], *, num_logits: int | None = None
    ) -> NDArray[np.float32]:
        assert len(self.tokens) + len(tokens) <= self._max_positions
        assert tokens
        assert all(0 <= token < self._vocab_size for token in tokens)
        rows = [self._row(token) for token in tokens]
        self.num_fed += len(tokens)
        self.longest_input = max(self.longest_input, len(tokens))
        return np.stack(rows[-(num_logits or len(rows)) :])

    def truncate(self, length: int) -> None:
        assert length <= len(self.tokens)
        del self.tokens[length:]

    def _row(self, token: int) -> NDArray[np.float32]:
        self.tokens.append(token)
        seed = zlib.crc32(repr(self.tokens).encode())
        return np.random.default_rng(seed).normal(0, 3, self._vocab_size).astype(np.float32)


class FakeDraftModel:
    """Makes `FakeSequence`s and remembers them."""

    def __init__(self, vocab_size: int, max_positions: int = 512) -> None:
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self.sequences: list[FakeSequence] = []

    def new_sequence(self) -> FakeSequence:
        self.sequences.append(FakeSequence(self.vocab_size, self.max_positions))
        return self.sequences[-1]
