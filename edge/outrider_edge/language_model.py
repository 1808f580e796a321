"""Drafting with a small language model that keeps its KV cache between calls.

Knows when to truncate and what to feed; knows nothing of the runtime that computes the logits
(`DraftModel` is its seam) and nothing of the target model's weights.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from outrider_common.acceptance import exact_token
from outrider_edge.prefix import common_prefix_length
from outrider_edge.proposer import Draft, DraftingTask

Logits = NDArray[np.floating[Any]]

FEED_CHUNK_TOKENS: Final = 256
"""Longer inputs are fed in pieces, so that the memory of one pass stays bounded."""


class DraftSequence(Protocol):
    """One KV cache of a draft model."""

    @property
    def length(self) -> int:
        """How many tokens the cache holds."""
        ...

    def forward(self, tokens: Sequence[int], *, num_logits: int | None = None) -> Logits:
        """Append `tokens` to the cache; returns the logits of the last `num_logits` of them.

        None: of all. The result is [num_logits or len(tokens), vocab].
        """
        ...

    def truncate(self, length: int) -> None:
        """Keep only the first `length` tokens."""
        ...


class DraftModel(Protocol):
    """The weights of a draft model, shared by all sequences."""

    @property
    def vocab_size(self) -> int:
        """How many logits a token has."""
        ...

    @property
    def max_positions(self) -> int:
        """How many tokens a sequence may hold."""
        ...

    def new_sequence(self) -> DraftSequence:
        """An empty sequence."""
        ...


class LanguageModelProposer:
    """Drafts one token a call: what the draft model would choose under the target's sampling.

    With a temperature, the draft model's logits meet the same noise as the target's, so that both
    choose the same token with probability at least (1 - TV) / (1 + TV), where TV is the total
    variation distance of their distributions (arXiv:2408.07978).
    """

    def __init__(self, task: DraftingTask, model: DraftModel) -> None:
        self._task = task
        self._vocab_size = min(task.vocab_size, model.vocab_size)
        self._max_positions = model.max_positions
        self._sequence = model.new_sequence()
        self._cached: list[int] = []

    def propose(self, context: Sequence[int], max_tokens: int) -> Draft:
        """At most one guess, with its probability under the draft model's own softmax.

        Nothing where the context is longer than the draft model can read, or holds a token that
        it does not have.
        """
        tokens = list(context)
        if len(tokens) > self._max_positions:
            return Draft()
        # The last token is fed again even if it is cached: its logits are wanted.
        shared = min(common_prefix_length(self._cached, tokens), len(tokens) - 1)
        if max(tokens[shared:]) >= self._vocab_size:
            return Draft()
        return self._guess(self._next_logits(tokens, shared), tokens)

    def _next_logits(self, tokens: list[int], shared: int) -> Logits:
        """Bring the cache from its first `shared` tokens to `tokens`; returns logits, [vocab]."""
        self._sequence.truncate(shared)
        del self._cached[shared:]
        pending = tokens[shared:]
        while len(pending) > FEED_CHUNK_TOKENS:
            self._feed(pending[:FEED_CHUNK_TOKENS])
            pending = pending[FEED_CHUNK_TOKENS:]
        return self._feed(pending)

    def _feed(self, tokens: list[int]) -> Logits:
        """Append to the cache; returns the logits after the last of `tokens`, [vocab]."""
        logits: Logits = self._sequence.forward(tokens, num_logits=1)[-1, : self._vocab_size]
        self._cached += tokens
        return logits

    def _guess(self, logits: Logits, tokens: list[int]) -> Draft:
        prompt = tokens[: self._task.num_prompt_tokens]
        output = tokens[self._task.num_prompt_tokens :]
        token = exact_token(logits, self._task.sampling, len(tokens), prompt, output)
        return Draft.chain([token], [softmax_probability(logits, token)])


def softmax_probability(logits: Logits, token: int) -> float:
    """The probability of `token` under the softmax of `logits`, [vocab]."""
    weights = np.exp(logits - logits.max())
    return float(weights[token] / weights.sum())


class LanguageModelFactory:
    """Makes a `LanguageModelProposer` for each generation; they share the model's weights."""

    name = "lm"

    def __init__(self, model: DraftModel) -> None:
        self._model = model

    def start(self, task: DraftingTask) -> LanguageModelProposer:
        """A proposer with an empty cache."""
        return LanguageModelProposer(task, self._model)
