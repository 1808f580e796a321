"""A target whose next token is a fixed, irregular function of the whole text. No tensors."""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.target import CACHED_TEXT, Rows, Segment

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


class FakeSequence:
    """Keeps its cache as tokens, so that keeping wrong rows shows in the logits."""

    def __init__(self) -> None:
        self.text: list[int] = []
        self.rows = Rows((), ())

    @property
    def length(self) -> int:
        return len(self.text)

    def logits(self, rows: Rows) -> NDArray[np.float32]:
        self.rows = rows
        paths: list[list[int]] = []
        for token, parent in zip(rows.tokens, rows.parents, strict=True):
            paths.append([*(paths[parent] if parent != CACHED_TEXT else []), token])
        wanted = paths[rows.first_logits_row :]
        return np.stack([logits_after([*self.text, *path]) for path in wanted])

    def keep(self, row_indices: Sequence[int]) -> None:
        self.text += [self.rows.tokens[i] for i in row_indices]
        self.rows = Rows((), ())


class FakeTarget:
    """Its passes wait while `gate` is given and closed, and fail if they hold `poison`."""

    vocab_size = VOCAB_SIZE
    eos_token_ids = (EOS,)

    def __init__(
        self,
        max_positions: int = 200,
        gate: threading.Event | None = None,
        poison: int | None = None,
    ) -> None:
        self.max_positions = max_positions
        self.gate = gate
        self.poison = poison
        self.num_rows: list[int] = []  # of each pass

    def new_sequence(self) -> FakeSequence:
        return FakeSequence()

    def forward(self, segments: Sequence[Segment]) -> list[NDArray[np.float32]]:
        if self.gate is not None:
            assert self.gate.wait(30), "the test never opened the gate"
        if any(self.poison in segment.rows.tokens for segment in segments):
            raise MemoryError("no room")
        self.num_rows.append(sum(len(segment.rows.tokens) for segment in segments))
        assert len({id(segment.sequence) for segment in segments}) == len(segments)
        return [segment.sequence.logits(segment.rows) for segment in segments]  # type: ignore[attr-defined]
