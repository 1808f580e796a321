"""A target whose next token is a fixed, irregular function of the whole text. No tensors."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.choice import ArrayLogits
from outrider_cloud.paged_sequence import Move
from outrider_cloud.target import CACHED_TEXT, CacheShape, Segment

VOCAB_SIZE = 11
EOS = 10


def logits_after(text: Sequence[int]) -> NDArray[np.float32]:
    """[VOCAB_SIZE]; depends on every token of the text and on its length."""
    state = 17
    for token in text:
        state = (state * 6364136223846793005 + token * 1442695040888963407 + 1) % (1 << 64)
    return np.random.default_rng(state).normal(0, 2, VOCAB_SIZE).astype(np.float32)


def greedy_text(
    prompt: Sequence[int], max_tokens: int, *, stop: Sequence[int] = (EOS,)
) -> list[int]:
    """What the target alone writes after a prompt."""
    text = list(prompt)
    while len(text) - len(prompt) < max_tokens:
        text.append(int(logits_after(text).argmax()))
        if text[-1] in stop:
            break
    return text[len(prompt) :]


NOTHING = -1


class LatePass:
    """Reads and writes as late as can be, so that what is changed meanwhile shows."""

    def __init__(self, target: "FakeTarget", segments: Sequence[Segment]) -> None:
        self._target = target
        self._segments = segments

    def result(self) -> ArrayLogits:
        return self._target.forward(self._segments)


class FakeTarget:
    """Keeps a token in each slot of its cache, so that a wrong page or row shows in the logits.

    Its passes wait while `gate` is given and closed, and fail if they hold `poison`.
    """

    vocab_size = VOCAB_SIZE
    eos_token_ids = (EOS,)

    def __init__(
        self,
        max_positions: int = 200,
        gate: threading.Event | None = None,
        poison: int | None = None,
        num_pages: int = 500,
        page_tokens: int = 4,
    ) -> None:
        self.max_positions = max_positions
        self.gate = gate
        self.poison = poison
        self.cache_shape = CacheShape(num_pages, page_tokens, bytes_per_page=page_tokens)
        self.slots = [NOTHING] * (num_pages * page_tokens)
        self.num_rows: list[int] = []  # of each pass

    def begin(self, segments: Sequence[Segment]) -> "LatePass":
        return LatePass(self, segments)

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        if self.gate is not None:
            assert self.gate.wait(30), "the test never opened the gate"
        if any(self.poison in segment.rows.tokens for segment in segments):
            raise MemoryError("no room")
        self.num_rows.append(sum(len(segment.rows.tokens) for segment in segments))
        self._write(segments)
        logits = [row for segment in segments for row in self._logits(segment)]
        return ArrayLogits(np.array(logits, dtype=np.float32).reshape(-1, VOCAB_SIZE))

    def move(self, moves: Sequence[Move]) -> None:
        for move in moves:
            self.slots[move.destination] = self.slots[move.source]

    def _write(self, segments: Sequence[Segment]) -> None:
        written = [
            (self._slot(segment, segment.length + row), token)
            for segment in segments
            for row, token in enumerate(segment.rows.tokens)
        ]
        assert len({slot for slot, _ in written}) == len(written), "a slot belongs to two"
        for slot, token in written:
            self.slots[slot] = token

    def _logits(self, segment: Segment) -> list[NDArray[np.float32]]:
        text = [self.slots[self._slot(segment, i)] for i in range(segment.length)]
        paths: list[list[int]] = []
        for row, parent in enumerate(segment.rows.parents):
            token = self.slots[self._slot(segment, segment.length + row)]
            paths.append([*(paths[parent] if parent != CACHED_TEXT else []), token])
        return [logits_after([*text, *path]) for path in paths[segment.rows.first_logits_row :]]

    def _slot(self, segment: Segment, position: int) -> int:
        index, offset = divmod(position, self.cache_shape.page_tokens)
        return segment.pages[index] * self.cache_shape.page_tokens + offset
