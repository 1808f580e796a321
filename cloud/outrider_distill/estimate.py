"""How often a verifier would accept a student's guesses, estimated on text that it was not shown.

Along the target's own text, with the student given the same text: what a chain drafter meets.
Counts are summed over rows, so that results of parts can be added. Knows nothing of training.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from outrider_distill.batches import Batch
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
    """

    num_rows: int
    greedy: float
    sampled: float
    kl: float
    in_first: tuple[float, ...]

    def as_dict(self) -> dict[str, Any]:
        """For a record."""
        return asdict(self)


def hidden_rows(student: PreTrainedModel, batch: Batch, dtype: torch.dtype) -> Tensor:
    """What the head of a student is given at the rows that count: [rows, hidden]."""
    body: Any = student.base_model
    device = batch.tokens.device.type
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        hidden: Tensor = body(input_ids=batch.tokens, use_cache=False).last_hidden_state
    return hidden.reshape(-1, hidden.shape[-1])[batch.rows].to(dtype)


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
    totals = sum(
        (
            _counts(hidden @ head.T, ids, log_probs)
            for hidden, ids, log_probs in _parts(student, batches, dtype)
        ),
        start=torch.zeros(3 + len(RANKS), dtype=torch.float64),
    )
    num_rows = int(totals[0])
    shares = (totals[1:] / max(num_rows, 1)).tolist()
    return Estimate(
        num_rows=num_rows,
        greedy=shares[2],
        sampled=shares[0],
        kl=shares[1],
        in_first=tuple(shares[2:]),
    )


def _parts(
    student: PreTrainedModel, batches: list[Batch], dtype: torch.dtype
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Hidden rows and the teacher's tokens, so many at a time that all logits have room."""
    for batch in batches:
        hidden = hidden_rows(student, batch, dtype)
        for begin in range(0, len(hidden), _ROWS_AT_ONCE):
            rows = slice(begin, begin + _ROWS_AT_ONCE)
            yield hidden[rows], batch.top_ids[rows], batch.top_log_probs[rows]


def _counts(logits: Tensor, top_ids: Tensor, top_log_probs: Tensor) -> Tensor:
    """Rows, sums of accepted mass and of KL, and hits for each of `RANKS`: float64 on the CPU."""
    logits = logits.float()
    log_probs = logits.gather(-1, top_ids) - logits.logsumexp(-1, keepdim=True)
    accepted = torch.minimum(log_probs.exp(), top_log_probs.exp()).sum(-1)
    is_best = logits.topk(max(RANKS)).indices == top_ids[:, :1]
    numbers = [
        torch.tensor(float(len(logits))),
        accepted.sum(),
        Buckets.of(top_log_probs, log_probs).kl().sum(),
        *(is_best[:, :rank].any(-1).sum() for rank in RANKS),
    ]
    return torch.stack([number.double().cpu() for number in numbers])
