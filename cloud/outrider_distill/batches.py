"""Puts samples into batches: texts of like length together, in an order that the seed decides.

A text is padded behind its end, which causal attention never sees. Pure.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import torch
from torch import Tensor

from outrider_distill.blocks import NO_MASK, Blocks, Layout, choose_anchors
from outrider_distill.samples import Sample

_WINDOW: Final = 256
"""So many texts in random order are sorted by length, before they are cut into batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to learn from, together.

    Attributes:
        tokens: [texts, longest]; where masks stand, whatever.
        rows: which positions count, as indices into the flattened tokens, [rows].
        depths: how far beyond its next token each row looks, [rows].
        top_ids: the teacher's tokens at these rows, [rows, k].
        top_log_probs: their log-probabilities, [rows, k].
        blocks: where masks stand; None where there are none.
    """

    tokens: Tensor
    rows: Tensor
    depths: Tensor
    top_ids: Tensor
    top_log_probs: Tensor
    blocks: Blocks | None

    @classmethod
    def of(
        cls, samples: Sequence[Sample], device: torch.device, num_masks: int = 0, seed: int = 0
    ) -> "Batch":
        """Put samples together.

        Args:
            samples: the texts.
            device: where the tensors go.
            num_masks: of a group behind an anchor; see `blocks`.
            seed: decides the anchors.
        """
        layouts = [_layout(sample, num_masks, seed) for sample in samples]
        longest = max(len(layout.positions) for layout in layouts)
        tokens = torch.zeros(len(samples), longest, dtype=torch.int64)
        rows, depths, ids, log_probs = [], [], [], []
        for number, (sample, layout) in enumerate(zip(samples, layouts, strict=True)):
            end = len(sample.tokens) - 1  # nothing follows the last token
            tokens[number, :end] = torch.from_numpy(sample.tokens[:end])
            counting = (layout.numbers > NO_MASK) | (layout.positions >= sample.begin)
            places = counting.nonzero()[:, 0]
            teacher = layout.positions[places].numpy()
            rows.append(places + number * longest)
            depths.append(layout.numbers[places])
            ids.append(torch.from_numpy(sample.top_ids[teacher]))
            log_probs.append(torch.from_numpy(sample.top_log_probs[teacher]))
        return cls(
            tokens=tokens.to(device),
            rows=torch.cat(rows).to(device),
            depths=torch.cat(depths).to(device),
            top_ids=torch.cat(ids).long().to(device),
            top_log_probs=torch.cat(log_probs).float().to(device),
            blocks=Blocks.of(layouts).to(device) if num_masks else None,
        )


def _layout(sample: Sample, num_masks: int, seed: int) -> Layout:
    """The layout of a text without its last token."""
    anchors = choose_anchors(sample, num_masks, seed) if num_masks else []
    return Layout.of(len(sample.tokens) - 1, anchors, num_masks)


def batches(samples: Sequence[Sample], num_tokens: int, seed: int) -> Iterator[Sequence[Sample]]:
    """Batches without end, epoch after epoch.

    Args:
        samples: the texts.
        num_tokens: of a batch at most, padding counted, unless one text is longer.
        seed: decides the order.
    """
    for epoch in count():
        yield from epoch_batches(samples, num_tokens, seed, epoch)


def epoch_batches(
    samples: Sequence[Sample], num_tokens: int, seed: int, epoch: int
) -> list[Sequence[Sample]]:
    """The batches of one epoch: every text once."""
    chance = random.Random(f"{seed} {epoch}")
    order = list(samples)
    chance.shuffle(order)
    for begin in range(0, len(order), _WINDOW):
        window = slice(begin, begin + _WINDOW)
        order[window] = sorted(order[window], key=lambda sample: len(sample.tokens))
    cut = list(_cut(order, num_tokens))
    chance.shuffle(cut)
    return cut


def _cut(order: Sequence[Sample], num_tokens: int) -> Iterator[Sequence[Sample]]:
    batch: list[Sample] = []
    for sample in order:
        longest = max(len(each.tokens) for each in (*batch, sample))
        if batch and longest * (len(batch) + 1) > num_tokens:
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch
