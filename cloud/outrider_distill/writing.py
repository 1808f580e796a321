"""Lets a target write many texts at once, and keeps what it thought of every token.

What a pass computes anyway is kept, so a distribution costs no pass of its own. Which texts share
a pass is decided by the assignments alone, so the same call writes the same texts; where a row has
the same bits in every pass, a text depends on its own assignment only. Knows nothing of files.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
import torch

from outrider_cloud.choice import UNUSABLE, ChoicePoint
from outrider_cloud.target import Rows, Segment
from outrider_cloud.torch_target import TorchTarget
from outrider_common.acceptance import ExactRule
from outrider_common.errors import ModelFileError
from outrider_common.sampling import SamplingParams
from outrider_distill.assignments import Assignment
from outrider_distill.chat_format import ChatFormat
from outrider_distill.samples import Floats, Ids, Sample


@dataclass(frozen=True, slots=True)
class WritingLimits:
    """How texts are written.

    Attributes:
        max_tokens: of one text.
        num_texts: that are written at once.
        rows_per_pass: new texts wait while a pass has so many rows.
        top_k: how many of the most probable tokens are kept of each distribution.
    """

    max_tokens: int = 512
    num_texts: int = 64
    rows_per_pass: int = 512
    top_k: int = 32


@dataclass(slots=True)
class _Text:
    """A text that is being written.

    Attributes:
        order: its place among the assignments.
        assignment: what it is.
        pages: its own part of the KV cache.
        tokens: all so far.
        asks: the question is still being written.
        num_cached: tokens that have been computed.
        top_ids: what was kept of the distributions, pass by pass.
        top_log_probs: the same.
    """

    order: int
    assignment: Assignment
    pages: range
    tokens: list[int]
    asks: bool
    num_cached: int = 0
    top_ids: list[Ids] = field(default_factory=list)
    top_log_probs: list[Floats] = field(default_factory=list)

    @property
    def pending(self) -> tuple[int, ...]:
        """Tokens that the next pass computes."""
        return tuple(self.tokens[self.num_cached :])

    @property
    def sampling(self) -> SamplingParams:
        """How the next token is chosen."""
        own = self.assignment.sampling
        return SamplingParams(temperature=1.0, seed=own.seed) if self.asks else own


class Writer:
    """Writes texts with a target.

    Args:
        target: who writes.
        chat: how its template frames a question.
        limits: how.
    """

    def __init__(self, target: TorchTarget, chat: ChatFormat, limits: WritingLimits) -> None:
        self._target = target
        self._chat = chat
        self._limits = limits
        self._max_tokens = min(limits.max_tokens, target.max_positions)
        self._ends = frozenset(target.eos_token_ids)
        shape = target.cache_shape
        self._pages_per_text = -(-self._max_tokens // shape.page_tokens)
        self._num_texts = min(limits.num_texts, shape.num_pages // self._pages_per_text)
        if not self._num_texts:
            raise ModelFileError(
                f"The KV cache has no room for one text of {self._max_tokens} tokens; "
                "write shorter texts."
            )

    def write(
        self, assignments: Iterable[Assignment], tell: Callable[[int], object] = lambda _: None
    ) -> list[Sample]:
        """Write a text for every assignment.

        Args:
            assignments: what to write.
            tell: is told after every pass how many tokens it has added.

        Returns:
            The texts, in the order of the assignments.

        Raises:
            ModelFileError: the target's logits are not numbers.
        """
        waiting = deque(enumerate(assignments))
        places = deque(self._places())
        running: list[_Text] = []
        samples: dict[int, Sample] = {}
        while waiting or running:
            self._start(waiting, places, running)
            tokens = self._pass(running)
            for text, token in zip(running[:], tokens, strict=True):
                if self._goes_on(text, token):
                    continue
                samples[text.order] = self._finished(text)
                running.remove(text)
                places.append(text.pages)
            tell(len(tokens))
        return [samples[order] for order in sorted(samples)]

    def _places(self) -> Iterable[range]:
        size = self._pages_per_text
        return (range(i * size, (i + 1) * size) for i in range(self._num_texts))

    def _start(
        self,
        waiting: deque[tuple[int, Assignment]],
        places: deque[range],
        running: list[_Text],
    ) -> None:
        """Begin texts while there are places, and room in the next pass."""
        num_rows = sum(len(text.pending) for text in running)
        while waiting and places and num_rows < self._limits.rows_per_pass:
            order, what = waiting.popleft()
            text = _Text(order, what, places.popleft(), list(what.given), what.asks_itself)
            running.append(text)
            num_rows += len(text.pending)

    def _pass(self, running: Sequence[_Text]) -> list[int]:
        """Compute what is pending of all texts; the next token of each."""
        segments = [
            Segment(text.pages, text.num_cached, Rows.chain(text.pending)) for text in running
        ]
        logits = self._target.forward(segments)
        sizes = [len(segment.rows.tokens) for segment in segments]
        top = _top(logits.tensor, self._limits.top_k)
        ends = list(accumulate(sizes))
        for text, end, size in zip(running, ends, sizes, strict=True):
            text.top_ids.append(top[0][end - size : end])
            text.top_log_probs.append(top[1][end - size : end])
            text.num_cached += size
        return logits.choose(
            [
                ChoicePoint(end - 1, len(text.tokens), ExactRule(text.sampling))
                for text, end in zip(running, ends, strict=True)
            ]
        )

    def _goes_on(self, text: _Text, token: int) -> bool:
        """Add a token; whether the text is to be continued."""
        if token == UNUSABLE:
            raise ModelFileError(
                "The target's logits are not numbers; check its weights and its number format."
            )
        if text.asks:
            self._add_to_question(text, token)
            return True
        text.tokens.append(token)
        most = min(self._max_tokens, text.assignment.most_tokens or self._max_tokens)
        return token not in self._ends and len(text.tokens) < most

    def _add_to_question(self, text: _Text, token: int) -> None:
        """Go on with the question, or close it: where the target would, or when it is too long."""
        closes = token in self._ends or token == self._chat.after[0]
        if closes or len(text.tokens) >= self._max_tokens // 2:
            text.tokens += self._chat.after
            text.asks = False
        else:
            text.tokens.append(token)

    def _finished(self, text: _Text) -> Sample:
        return Sample(
            tokens=np.array(text.tokens, np.int32),
            begin=len(self._chat.before) - 1,
            top_ids=np.concatenate(text.top_ids),
            top_log_probs=np.concatenate(text.top_log_probs),
        )


def _top(logits: torch.Tensor, k: int) -> tuple[Ids, Floats]:
    """The k most probable tokens of each row and their log-probabilities: [rows, k] each."""
    values, ids = logits.float().topk(min(k, logits.shape[1]))
    log_probs = values - logits.float().logsumexp(-1, keepdim=True)
    return ids.to(torch.int32).cpu().numpy(), log_probs.half().cpu().numpy()
