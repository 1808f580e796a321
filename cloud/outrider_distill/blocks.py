"""Lays out texts so that a student learns to look several tokens ahead in one pass.

Behind a text stand masks, in groups: a group follows one token of the text, its anchor, and its
k-th mask has to say what the text has k tokens behind the anchor's next one (An et al. 2025,
"PARD", arXiv:2504.18583). A mask sees the text up to its anchor and the masks of its group before
it: what it sees when it drafts. Only some tokens are anchors, so that a step costs about twice as
much and not K times. Pure.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from outrider_distill.samples import Sample

NO_MASK: Final = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a text and of its masks stand.

    Attributes:
        positions: of every row in the text, [rows].
        numbers: of every row which mask it is, from 1; `NO_MASK` for the text, [rows].
        sees: which rows each row sees, [rows, rows].
    """

    positions: Tensor
    numbers: Tensor
    sees: Tensor

    @classmethod
    def of(cls, num_tokens: int, anchors: Sequence[int], num_masks: int) -> "Layout":
        """Lay out a text and the masks behind its anchors.

        Args:
            num_tokens: of the text.
            anchors: distinct positions in it.
            num_masks: of a group; masks beyond the end of the text are left out.
        """
        groups = [(a, min(num_masks, num_tokens - 1 - a)) for a in anchors]
        text = torch.arange(num_tokens)
        behind = [torch.arange(1, size + 1) for _, size in groups]
        numbers = torch.cat([torch.zeros(num_tokens, dtype=torch.int64), *behind])
        owners = torch.cat([text, *(torch.full((size,), a) for a, size in groups)])
        is_text = numbers == NO_MASK
        sees_text = is_text[None, :] & (owners[None, :] <= owners[:, None])
        same_group = ~is_text[None, :] & ~is_text[:, None] & (owners[None, :] == owners[:, None])
        earlier = numbers[None, :] <= numbers[:, None]
        return cls(owners + numbers, numbers, sees_text | (same_group & earlier))


def choose_anchors(sample: Sample, num_masks: int, seed: int) -> list[int]:
    """The anchors of a text: one for each of `num_masks` + 1 rows to learn from, at random."""
    chance = random.Random(f"{seed} {len(sample.tokens)} {int(sample.tokens.sum())}")
    rows = range(sample.begin, len(sample.tokens) - 2)  # the last row has nothing behind it
    return sorted(chance.sample(rows, len(rows) // (num_masks + 1)))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Layouts of several texts together, padded.

    Attributes:
        positions: [texts, longest].
        numbers: [texts, longest].
        sees: [texts, 1, longest, longest]; padding sees itself.
    """

    positions: Tensor
    numbers: Tensor
    sees: Tensor

    @classmethod
    def of(cls, layouts: Sequence[Layout]) -> "Blocks":
        """Put layouts together."""
        longest = max(len(layout.positions) for layout in layouts)
        positions = torch.zeros(len(layouts), longest, dtype=torch.int64)
        numbers = torch.zeros_like(positions)
        sees = torch.eye(longest, dtype=torch.bool).repeat(len(layouts), 1, 1)
        for number, layout in enumerate(layouts):
            size = len(layout.positions)
            positions[number, :size] = layout.positions
            numbers[number, :size] = layout.numbers
            sees[number, :size, :size] = layout.sees
        return cls(positions, numbers, sees[:, None])

    def to(self, device: torch.device) -> "Blocks":
        """The same on a device."""
        return Blocks(self.positions.to(device), self.numbers.to(device), self.sees.to(device))
