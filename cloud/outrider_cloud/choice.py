"""The choice of tokens in a pass: at which points of which trees, and from which logits.

Pure. A pass may serve sessions of different rules; logits lie wherever the target left them.
Contains the plain implementation, one reference rule at a time. Knows nothing of targets.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider_common.acceptance import AcceptanceRule, SparseDistribution
from outrider_common.errors import ModelFileError
from outrider_common.logprobs import TokenLogprobs

UNUSABLE: Final = -1
"""Instead of a token: the row's logits are not numbers."""

Logits = NDArray[np.floating[Any]]


class ChoicePoint(NamedTuple):
    """One point of one session's tree at which the target's token is asked for.

    Attributes:
        row: the row of the pass's logits.
        position: where the token will stand, counted from the start of the prompt.
        rule: the session's acceptance rule.
        children: the tokens of the draft nodes at `position`, in the order of their ids.
        draft: the distribution from which the children were drawn; only `rejection` needs it.
        prompt_tokens: the prompt; read only where the rule has penalties.
        output_tokens: the tokens after the prompt and before `position`; read only where the rule
            has penalties.
    """

    row: int
    position: int
    rule: AcceptanceRule
    children: Sequence[int] = ()
    draft: SparseDistribution | None = None
    prompt_tokens: Sequence[int] = ()
    output_tokens: Sequence[int] = ()


class PassLogits(Protocol):
    """The logits of one pass, wherever they are."""

    @property
    def num_rows(self) -> int:
        """How many rows of logits there are."""
        ...

    @property
    def chooses_whole_trees(self) -> bool:
        """Whether asking for all rows at once is cheaper than level by level."""
        ...

    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        """The target's token at each point; `UNUSABLE` where the logits are not numbers."""
        ...

    def runner_ups(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[tuple[int, ...]]:
        """For each row the tokens with the largest logits, the best first, but for one token.

        Args:
            rows: of the pass's logits, which are numbers.
            tokens: for each row the one that is left out: it was chosen there.
            count: how many for each row; one less than there are tokens at most.
        """
        ...

    def logprobs(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[TokenLogprobs]:
        """For each row the log-probability of a token, and of the likeliest of the row.

        By the softmax of the logits as they are.

        Args:
            rows: of the pass's logits, which are numbers.
            tokens: for each row the one that was chosen there.
            count: how many of the likeliest for each row.
        """
        ...

    def numpy(self) -> Logits:
        """A copy or view of all logits, float32, [num_rows, vocab]."""
        ...


class ArrayLogits:
    """Logits in memory and the reference rules: what every faster way is tested against.

    Args:
        logits: [rows, vocab].
    """

    def __init__(self, logits: Logits) -> None:
        self._logits = logits

    @property
    def num_rows(self) -> int:
        """How many rows of logits there are."""
        return len(self._logits)

    @property
    def chooses_whole_trees(self) -> bool:
        """A point costs the same whenever it is asked for, so only what is needed should be."""
        return False

    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        """See `PassLogits.choose`."""
        return [choose_one(self._logits[point.row], point) for point in points]

    def runner_ups(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[tuple[int, ...]]:
        """See `PassLogits.runner_ups`; of equal logits the lowest id is first."""
        return [
            runner_ups_of_one(self._logits[row], token, count)
            for row, token in zip(rows, tokens, strict=True)
        ]

    def logprobs(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[TokenLogprobs]:
        """See `PassLogits.logprobs`; of equal ones the lowest id is first."""
        return [
            logprobs_of_one(self._logits[row], token, count)
            for row, token in zip(rows, tokens, strict=True)
        ]

    def numpy(self) -> Logits:
        """See `PassLogits.numpy`."""
        return self._logits.astype(np.float32, copy=False)


def choose_one(logits: Logits, point: ChoicePoint) -> int:
    """The token of the reference rule at one point; `UNUSABLE` where it finds the logits unusable.

    Args:
        logits: the point's row, [vocab].
        point: which rule, and what it needs to know.
    """
    try:
        return point.rule.choose(
            logits,
            point.position,
            point.children,
            point.draft,
            point.prompt_tokens,
            point.output_tokens,
        )
    except ModelFileError:
        return UNUSABLE


def runner_ups_of_one(logits: Logits, token: int, count: int) -> tuple[int, ...]:
    """The `count` tokens with the largest logits, but for `token`; of equal ones the lowest first.

    Args:
        logits: of one row, [vocab].
        token: the one that is left out.
        count: how many are wanted; there are fewer in a vocabulary that has no more.
    """
    ranked = np.argsort(-logits, kind="stable")
    return tuple(ranked[ranked != token][:count].tolist())


def logprobs_of_one(logits: Logits, token: int, count: int) -> TokenLogprobs:
    """The log-probabilities of a token and of the `count` likeliest, of equal ones the lowest.

    Args:
        logits: of one row, [vocab].
        token: the one that stands there.
        count: how many of the likeliest are wanted.
    """
    shifted = logits.astype(np.float64) - np.max(logits)
    logprobs = shifted - np.log(np.sum(np.exp(shifted)))  # log softmax
    ranked = np.argsort(-logprobs, kind="stable")[:count]
    top = zip(ranked.tolist(), logprobs[ranked].tolist(), strict=True)
    return TokenLogprobs(float(logprobs[token]), tuple(top))
