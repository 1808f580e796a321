"""The estimated acceptance, against a count row by row."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from outrider_distill.batches import Batch, epoch_batches
from outrider_distill.estimate import RANKS, estimate
from outrider_distill.samples import Sample
from outrider_distill.student import build_student

CPU = torch.device("cpu")


def test_the_estimate_is_what_one_counts_text_by_text(
    tiny_model: Any, tiny_samples: Sequence[Sample]
) -> None:
    student: Any = build_student(tiny_model, [0, 3]).eval()
    batches = [Batch.of(part, CPU) for part in epoch_batches(tiny_samples, 256, 0, 0)]
    found = estimate(student, student.lm_head.weight, batches, torch.float32)
    num_rows, accepted, hits = 0, 0.0, [0] * len(RANKS)
    for sample in tiny_samples:
        with torch.no_grad():
            logits = student(torch.from_numpy(sample.tokens)[None].long()).logits[0]
        for row in range(sample.begin, len(sample.tokens) - 1):
            q = logits[row].softmax(-1)
            ids = torch.from_numpy(sample.top_ids[row]).long()
            p = torch.from_numpy(sample.top_log_probs[row]).float().exp()
            accepted += float(torch.minimum(p, q[ids]).sum())
            place = int((logits[row] > logits[row, ids[0]]).sum())
            hits = [hit + (place < rank) for hit, rank in zip(hits, RANKS, strict=True)]
            num_rows += 1
    assert found.num_rows == num_rows
    assert found.in_first == pytest.approx([hit / num_rows for hit in hits], abs=1e-6)
    assert found.greedy == found.in_first[0]
    assert found.sampled == pytest.approx(accepted / num_rows, abs=1e-4)


def test_a_student_like_its_teacher_has_everything_accepted(
    tiny_model: Any, tiny_samples: Sequence[Sample]
) -> None:
    student: Any = build_student(tiny_model, [0, 1, 2, 3]).eval()
    batches = [Batch.of(tiny_samples, CPU)]
    found = estimate(student, student.lm_head.weight, batches, torch.float32)
    assert found.greedy > 0.999
    assert found.kl < 1e-3
