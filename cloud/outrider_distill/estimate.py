"""How often a verifier would accept a student's guesses, estimated on text that it was not shown.

Along the target's own text, with the student given the same text: what a chain drafter meets.
Counts are summed over rows, so that results of parts can be added. Knows nothing of training.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from outrider_distill.batches import Batch
from outrider_distill.blocks import NO_MASK
from outrider_distill.losses import Buckets

RANKS: Final = (1, 2, 4, 8)
"""The target's token is looked for among so many first guesses."""

_ROWS_AT_ONCE: Final = 1024


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a student is worth.

    Attributes:
        num_rows: next tokens that were guessed.
        greedy: the share in which the student's best token is the target's best.
        sampled: 1 - TV at temperature 1: what rejection sampling accepts. Counted over the
            target's most probable tokens only, so a lower bound.
        kl: KL(target || student), nats.
        in_first: the share in which the target's best token is among the student's first `RANKS`.
        ahead: `greedy` at each mask, where the student was taught to look ahead: the first mask
            looks one token beyond the next.
    """

    num_rows: int
    greedy: float
    sampled: float
    kl: float
    in_first: tuple[float, ...]
    ahead: tuple[float, ...] = ()


def hidden_rows(student: PreTrainedModel, batch: Batch, dtype: torch.dtype) -> Tensor:
    """What the head of a student is given at the rows that count: [rows, hidden]."""
    body: Any = student.base_model
    device = batch.tokens.device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        hidden: Tensor = body(**_inputs(student, batch), use_cache=False).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])[batch.rows].to(dtype)


def _inputs(student: Any, batch: Batch) -> dict[str, Tensor]:
    """What the model is called with; masks have embeddings of their own."""
    if batch.blocks is None:
        return {"input_ids": batch.tokens}
    numbers = batch.blocks.numbers
    text = student.get_input_embeddings()(batch.tokens)
    masks = student.mask_embeddings[(numbers - 1).clamp_min(0)]
    return {
        "inputs_embeds": torch.where((numbers > NO_MASK)[..., None], masks, text),
        "position_ids": batch.blocks.positions,
        "attention_mask": batch.blocks.sees,
    }


@torch.no_grad()
def estimate(
    student: PreTrainedModel, head: Tensor, batches: list[Batch], dtype: torch.dtype
) -> Estimate:
    """Estimate what a student is worth, with its whole vocabulary.

    Args:
        student: the model.
        head: the weight of its LM head, [vocab, hidden], of type `dtype`.
        batches: text that it was not shown.
        dtype: in which to compute.
    """
    totals = torch.zeros(0, 3 + len(RANKS), dtype=torch.float64)
    for hidden, part in _parts(student, batches, dtype):
        totals = _add(totals, _counts(hidden @ head.T, part))
    shares = totals[:, 1:] / totals[:, :1].clamp_min(1)
    sampled, kl, *in_first = shares[0].tolist()
    return Estimate(
        num_rows=int(totals[0, 0]),
        greedy=in_first[0],
        sampled=sampled,
        kl=kl,
        in_first=tuple(in_first),
        ahead=tuple(shares[1:, 2].tolist()),
    )


def _add(one: Tensor, other: Tensor) -> Tensor:
    """Add counts by depth; one may have more depths than the other."""
    total = torch.zeros(max(len(one), len(other)), one.shape[1], dtype=torch.float64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total


@dataclass(frozen=True, slots=True)
class _Part:
    """Some rows of a batch: how far they look, and the teacher's tokens."""

    depths: Tensor
    top_ids: Tensor
    top_log_probs: Tensor


def _parts(
    student: PreTrainedModel, batches: list[Batch], dtype: torch.dtype
) -> Iterator[tuple[Tensor, _Part]]:
    """Hidden rows and their teacher, so many at a time that all logits have room."""
    for batch in batches:
        hidden = hidden_rows(student, batch, dtype)
        for begin in range(0, len(hidden), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            part = _Part(batch.depths[rows], batch.top_ids[rows], batch.top_log_probs[rows])
            yield hidden[rows], part


def _counts(logits: Tensor, part: _Part) -> Tensor:
    """Rows, sums of accepted mass and of KL, and hits for each of `RANKS`, by depth.

    Float64 on the CPU, [depths, 3 + len(RANKS)].
    """
    logits = logits.float()
    log_probs = logits.gather(-1, part.top_ids) - logits.logsumexp(-1, keepdim=True)
    accepted = torch.minimum(log_probs.exp(), part.top_log_probs.exp()).sum(-1)
    is_best = logits.topk(max(RANKS)).indices == part.top_ids[:, :1]
    columns = [
        torch.ones_like(accepted),
        accepted,
        Buckets.of(part.top_log_probs, log_probs).kl(),
        *(is_best[:, :rank].any(-1) for rank in RANKS),
    ]
    numbers = torch.stack([column.double().cpu() for column in columns], dim=1)
    depths = part.depths.cpu()
    return torch.zeros(int(depths.max()) + 1, len(columns), dtype=torch.float64).index_add_(
        0, depths, numbers
    )
