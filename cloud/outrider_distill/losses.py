"""How far a student is from its teacher, and how often a verifier would accept its guesses.

The teacher is known by its k most probable tokens; all others share what is left, as one bucket,
so every divergence here is a lower bound of that over the whole vocabulary. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import torch
from torch import Tensor

from outrider_common.errors import InvalidInputError

_TINY: Final = 1e-6


class Loss(StrEnum):
    """What training makes small."""

    KL = "kl"
    """KL(teacher || student) (Hinton et al. 2015)."""
    TV = "tv"
    """Total variation: 1 - TV is what rejection sampling accepts (Leviathan et al. 2023)."""
    KL_TV = "kl+tv"
    """Their sum: KL finds the way from afar, TV counts what is accepted."""


@dataclass(frozen=True, slots=True)
class Buckets:
    """Probabilities of the teacher's first k tokens and of all others: [rows, k + 1] each.

    Attributes:
        teacher: log-probabilities of the teacher.
        student: log-probabilities of the student.
    """

    teacher: Tensor
    student: Tensor

    @classmethod
    def of(cls, teacher: Tensor, student: Tensor) -> "Buckets":
        """Add the bucket of all other tokens.

        Args:
            teacher: log-probabilities of the teacher's most probable tokens, [rows, k].
            student: what the student makes of the same tokens, [rows, k].
        """
        return cls(_with_rest(teacher), _with_rest(student))

    def kl(self) -> Tensor:
        """KL(teacher || student) of each row, [rows]."""
        return (self.teacher.exp() * (self.teacher - self.student)).sum(-1)

    def total_variation(self) -> Tensor:
        """Half the sum of absolute differences, [rows]."""
        return 0.5 * (self.teacher.exp() - self.student.exp()).abs().sum(-1)

    def loss(self, kind: Loss) -> Tensor:
        """The loss of each row, [rows]."""
        match kind:
            case Loss.KL:
                return self.kl()
            case Loss.TV:
                return self.total_variation()
            case Loss.KL_TV:
                return self.kl() + self.total_variation()
        raise InvalidInputError(f"There is no loss {kind!r}; choose from {', '.join(Loss)}.")


def _with_rest(log_probs: Tensor) -> Tensor:
    """Add the log-probability of all other tokens: [rows, k] becomes [rows, k + 1]."""
    rest = (1 - log_probs.exp().sum(-1, keepdim=True)).clamp_min(_TINY).log()
    return torch.cat([log_probs, rest], dim=-1)
