"""Divergences over the teacher's first tokens, against those over the whole vocabulary."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outrider_distill.losses import Buckets, Loss


def distributions(seed: int, k: int) -> tuple[torch.Tensor, torch.Tensor, Buckets]:
    chance = torch.Generator().manual_seed(seed)
    teacher, student = torch.randn(2, 7, 40, generator=chance).mul(2).log_softmax(-1)
    top = teacher.topk(k)
    return teacher, student, Buckets.of(top.values, student.gather(-1, top.indices))


@given(st.integers(0, 10**6), st.integers(1, 39))
def test_buckets_never_overstate_and_say_all_when_there_are_enough(seed: int, k: int) -> None:
    teacher, student, buckets = distributions(seed, k)
    kl = (teacher.exp() * (teacher - student)).sum(-1)
    tv = 0.5 * (teacher.exp() - student.exp()).abs().sum(-1)
    assert (buckets.kl() <= kl + 1e-4).all()
    assert (buckets.total_variation() <= tv + 1e-5).all()
    assert (buckets.kl() >= -1e-5).all()
    assert (buckets.total_variation() >= 0).all()
    if k == 39:  # the bucket of all others holds one token
        torch.testing.assert_close(buckets.kl(), kl, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(buckets.total_variation(), tv, atol=1e-4, rtol=1e-3)


def test_every_loss_is_zero_for_a_student_like_its_teacher() -> None:
    teacher = torch.randn(5, 40).log_softmax(-1).topk(8).values
    buckets = Buckets.of(teacher, teacher)
    for kind in Loss:
        torch.testing.assert_close(buckets.loss(kind), torch.zeros(5), atol=1e-6, rtol=0)


def test_the_mixed_loss_is_the_sum_of_both() -> None:
    _, _, buckets = distributions(0, 8)
    total = buckets.loss(Loss.KL) + buckets.loss(Loss.TV)
    torch.testing.assert_close(buckets.loss(Loss.KL_TV), total)


@pytest.mark.parametrize("kind", Loss)
def test_a_step_down_any_loss_brings_the_student_nearer(kind: Loss) -> None:
    teacher = torch.randn(5, 40).log_softmax(-1)
    top = teacher.topk(8)
    logits = torch.zeros(5, 40, requires_grad=True)

    def loss() -> torch.Tensor:
        own = logits.log_softmax(-1).gather(-1, top.indices)
        return Buckets.of(top.values, own).loss(kind).mean()

    before = loss()
    before.backward()
    assert logits.grad is not None
    with torch.no_grad():
        logits -= 0.5 * logits.grad
    assert loss() < before
