"""A student's log-probabilities of given tokens without its whole LM head.

The head is most of a small student's work. Of the tokens that no teacher in the batch thinks of,
only a random part is computed, and stands for all of them in the normaliser (Bengio and Senécal
2003, importance sampling with a uniform proposal). Pure.
"""

from math import log
from typing import Final

import torch
from torch import Tensor

NUM_STAND_INS: Final = 2048
"""Tokens that stand for all those that no teacher in the batch thinks of."""


def log_probs_of(
    hidden: Tensor,
    head: Tensor,
    token_ids: Tensor,
    chance: torch.Generator,
    num_stand_ins: int,
) -> Tensor:
    """Log-probabilities of tokens, with an estimate of the normaliser.

    With U the tokens in `token_ids` and n of all others, V - U, drawn with replacement:
    Z = sum over U of exp(z) + |V - U| / n * sum over the drawn of exp(z): right on average.

    Args:
        hidden: what the head is given, [rows, hidden].
        head: its weight, [vocab, hidden].
        token_ids: whose log-probabilities are wanted, [rows, k].
        chance: draws the stand-ins; on the CPU.
        num_stand_ins: how many. Where there are no more other tokens, all are computed.

    Returns:
        Float32, [rows, k].
    """
    known, columns = torch.unique(token_ids, return_inverse=True)
    others = _others(known, len(head))
    drawn, weight = others, 0.0
    if len(others) > num_stand_ins:
        picks = torch.randint(len(others), (num_stand_ins,), generator=chance)
        drawn, weight = others[picks.to(others.device)], log(len(others) / num_stand_ins)
    logits = (hidden @ head[torch.cat([known, drawn])].T).float()
    weights = torch.zeros(logits.shape[1], device=logits.device)
    weights[len(known) :] = weight
    normaliser = (logits + weights).logsumexp(-1, keepdim=True)
    return logits.gather(-1, columns) - normaliser


def _others(known: Tensor, vocab_size: int) -> Tensor:
    """The token ids that are not known, ascending."""
    is_other = torch.ones(vocab_size, dtype=torch.bool, device=known.device)
    is_other[known] = False
    return is_other.nonzero()[:, 0]
