"""Texts in the paged KV cache of a target, without an engine."""

from collections.abc import Sequence

import numpy as np

from outrider_cloud.paged_sequence import PagedSequence
from outrider_cloud.pages import PageKeys, PagePool
from outrider_cloud.target import Rows, Segment
from outrider_cloud.torch_target import TorchTarget


class Text:
    """One sequence: its tokens, and where they are cached."""

    def __init__(self, target: TorchTarget, pool: PagePool) -> None:
        self.tokens: list[int] = []
        self.target = target
        self.sequence = PagedSequence(pool, PageKeys(self.tokens, pool.page_tokens))

    def segment(self, rows: Rows) -> Segment:
        assert self.sequence.reserve(len(rows.tokens))
        return Segment(self.sequence.pages, self.sequence.length, rows)

    def keep(self, rows: Rows, kept: Sequence[int]) -> None:
        self.tokens += [rows.tokens[row] for row in kept]
        self.target.move(self.sequence.keep(kept))


def split(logits: np.ndarray, segments: Sequence[Segment]) -> list[np.ndarray]:
    """The logits of each segment."""
    ends = np.cumsum([segment.rows.num_logits_rows for segment in segments])
    return np.split(logits, ends[:-1])
