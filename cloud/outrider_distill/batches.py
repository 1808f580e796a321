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

from outrider_distill.samples import Sample

_WINDOW: Final = 256
"""So many texts in random order are sorted by length, before they are cut into batches."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts to learn from, together.

    Attributes:
        tokens: [texts, longest].
        rows: which of the texts' positions count, as indices into the flattened tokens, [rows].
        top_ids: the teacher's tokens at these rows, [rows, k].
        top_log_probs: their log-probabilities, [rows, k].
        next_tokens: the tokens that really follow, [rows].
    """

    tokens: Tensor
    rows: Tensor
    top_ids: Tensor
    top_log_probs: Tensor
    next_tokens: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample], device: torch.device) -> "Batch":
        """Put samples together."""
        longest = max(len(sample.tokens) for sample in samples) - 1
        tokens = torch.zeros(len(samples), longest, dtype=torch.int64)
        rows, ids, log_probs, following = [], [], [], []
        for number, sample in enumerate(samples):
            end = len(sample.tokens) - 1  # nothing follows the last token
            text = torch.from_numpy(sample.tokens).long()
            tokens[number, :end] = text[:-1]
            rows.append(torch.arange(sample.begin, end) + number * longest)
            ids.append(torch.from_numpy(sample.top_ids[sample.begin :]))
            log_probs.append(torch.from_numpy(sample.top_log_probs[sample.begin :]))
            following.append(text[sample.begin + 1 :])
        return cls(
            tokens=tokens.to(device),
            rows=torch.cat(rows).to(device),
            top_ids=torch.cat(ids).long().to(device),
            top_log_probs=torch.cat(log_probs).float().to(device),
            next_tokens=torch.cat(following).to(device),
        )


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
