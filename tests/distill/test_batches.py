"""Batches of samples."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrider_distill.batches import Batch, batches, epoch_batches
from outrider_distill.samples import Sample

CPU = torch.device("cpu")


def sample(length: int) -> Sample:
    """Row i says that token i + 1 follows, and was written where token i stands."""
    numbers = np.arange(length, dtype=np.int32)
    top = np.stack([numbers[1:], numbers[1:] + 1000], axis=1)
    return Sample(numbers, 1, top, np.zeros(top.shape, np.float16))


@given(st.lists(st.integers(3, 40), min_size=1, max_size=60), st.integers(8, 100), st.integers(0))
def test_an_epoch_has_every_text_once_in_batches_that_are_not_too_large(
    lengths: Sequence[int], num_tokens: int, epoch: int
) -> None:
    samples = [sample(length) for length in lengths]
    parts = epoch_batches(samples, num_tokens, 0, epoch)
    assert sorted(id(each) for part in parts for each in part) == sorted(map(id, samples))
    for part in parts:
        longest = max(len(each.tokens) for each in part)
        assert len(part) == 1 or longest * len(part) <= num_tokens


def test_seed_and_epoch_decide_the_order() -> None:
    samples = [sample(3 + number % 7) for number in range(50)]

    def order(seed: int, epoch: int) -> list[int]:
        return [id(each) for part in epoch_batches(samples, 30, seed, epoch) for each in part]

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_batches_go_on_with_the_next_epoch() -> None:
    samples = [sample(5) for _ in range(6)]
    parts = list(islice(batches(samples, 10, 0), 6))
    expected = [*epoch_batches(samples, 10, 0, 0), *epoch_batches(samples, 10, 0, 1)]
    assert [[id(each) for each in part] for part in parts] == [
        [id(each) for each in part] for part in expected
    ]


def test_rows_of_a_batch_stand_beside_the_tokens_that_they_follow() -> None:
    batch = Batch.of([sample(7), sample(4), sample(5)], CPU)
    assert batch.tokens.tolist() == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 0, 0, 0], [0, 1, 2, 3, 0, 0]]
    assert batch.tokens.flatten()[batch.rows].tolist() == [1, 2, 3, 4, 5, 1, 2, 1, 2, 3]
    assert batch.top_ids[:, 0].tolist() == [2, 3, 4, 5, 6, 2, 3, 2, 3, 4]
    assert batch.depths.tolist() == [0] * 10
    assert batch.blocks is None
    assert batch.top_log_probs.dtype == torch.float32
