"""The shadow decode: finished texts, decoded again as plainly as can be, to count what differs.

One sequence alone in a pass, one row a pass, no drafts, the reference rules, and pages that nobody
else has written or will read: what passes of many rows commit is held against this. Runs on the
engine's thread, between its passes. Knows nothing of sessions or of when there is time for it.
"""

import logging
import random
from collections import deque
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from outrider_cloud.choice import ChoicePoint, Logits
from outrider_cloud.pages import PagePool
from outrider_cloud.target import Rows, Segment, Target
from outrider_common import log, noise
from outrider_common.acceptance import AcceptanceRule, ExactRule
from outrider_common.noise import Purpose
from outrider_common.sampling import Floats, distribution, penalise

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FinishedText:
    """What a session wrote, `1 <= num_prompt_tokens <= num_given <= len(tokens)`.

    Attributes:
        tokens: all of its text, the prompt included.
        num_prompt_tokens: how many of them are the prompt.
        num_given: how many were given at opening; those after them were committed here.
        rule: by which they were.
    """

    tokens: tuple[int, ...]
    num_prompt_tokens: int
    num_given: int
    rule: AcceptanceRule


@dataclass(frozen=True, slots=True)
class ShadowStats:
    """What shadow decodes have found.

    Gaps and margins are in logits, between what the rule takes the largest of: the penalised
    logits, and where the text is sampled temperature * Gumbel noise on top of them. A mismatch
    whose gap is within the rounding of a pass is a near-tie; one far above it is a fault. Only
    where top-k, top-p or min-p cut off one of the two tokens does the gap not tell.

    Attributes:
        num_texts: texts that were decoded to their end.
        num_tokens: committed tokens that were compared.
        num_mismatches: those of them that the shadow would not have committed.
        num_dropped: sampled texts that were given up for lack of time or room, or because a pass
            failed.
        largest_gap: the largest distance between the shadow's token and the committed one, over
            all mismatches; 0 without any.
        smallest_margin: the smallest distance between the best and the second token that could be
            chosen, over all compared positions: how near ties come. Infinite without any.
    """

    num_texts: int = 0
    num_tokens: int = 0
    num_mismatches: int = 0
    num_dropped: int = 0
    largest_gap: float = 0.0
    smallest_margin: float = inf

    def with_one_more(self, found: "Comparison") -> "ShadowStats":
        """These, after another token was compared."""
        return replace(
            self,
            num_tokens=self.num_tokens + 1,
            num_mismatches=self.num_mismatches + found.is_mismatch,
            largest_gap=max(self.largest_gap, found.gap),
            smallest_margin=min(self.smallest_margin, found.margin),
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One committed token, held against the reference rule.

    Attributes:
        token: the rule's.
        is_mismatch: it is not the committed one.
        gap: the distance between the two, in logits; see `ShadowStats`.
        margin: the distance between the best and the second token that could be chosen, likewise.
    """

    token: int
    is_mismatch: bool
    gap: float
    margin: float


def compared(text: FinishedText, position: int, logits: Logits) -> Comparison:
    """Hold the committed token at a position against the rule's; logits: [vocab]."""
    point = _choice_point(text, position)
    token = text.rule.choose(logits, position, (), None, point.prompt_tokens, point.output_tokens)
    committed = text.tokens[position]
    scores = _scores(logits, point)
    return Comparison(
        token=token,
        is_mismatch=token != committed,
        gap=float(abs(scores[token] - scores[committed])),
        margin=_margin(scores, logits, point),
    )


class ShadowDecoder:
    """Decodes a sample of finished texts again.

    A step that finds no page drops its text, for serving comes first; so should the engine, with
    `drop_current`, before it takes pages from a session.

    Args:
        target: the model that wrote the texts.
        pool: of the pages of its KV cache.
        rate: the probability with which a text is decoded again, in [0, 1].
        prefill_chunk_tokens: the most given tokens that a pass computes, at least 1.
        max_waiting: so many texts wait at most; those that come then are dropped.
        seed: of the sample.
    """

    def __init__(
        self,
        target: Target,
        pool: PagePool,
        rate: float,
        *,
        prefill_chunk_tokens: int = 256,
        max_waiting: int = 8,
        seed: int = 0,
    ) -> None:
        self._target = target
        self._pool = pool
        self._rate = rate
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._max_waiting = max_waiting
        self._random = random.Random(seed)
        self._waiting: deque[FinishedText] = deque()
        self._current: PlainDecode | None = None
        self._stats = ShadowStats()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to decode."""
        return self._current is None and not self._waiting

    @property
    def stats(self) -> ShadowStats:
        """What has been found; may be read from any thread."""
        return self._stats

    def offer(self, text: FinishedText) -> None:
        """A session has ended; with probability `rate` its text waits to be decoded again.

        Only texts of `exact` mode, greedy or sampled, count: elsewhere tokens depend on drafts.
        """
        if not _is_comparable(text) or self._random.random() >= self._rate:
            return
        if len(self._waiting) < self._max_waiting:
            self._waiting.append(text)
        else:
            self._count_dropped()

    def step(self) -> bool:
        """Run one plain pass, or drop a text that cannot go on; False if there is nothing to do."""
        if self.is_idle:
            return False
        if self._current is None:
            self._current = PlainDecode(self._waiting.popleft(), self._pool)
        try:
            self._advance(self._current)
        except Exception as error:  # whatever a model or a rule may raise
            log.event(_logger, "shadow_failed", level=logging.WARNING, error=error)
            self.drop_current()
        return True

    def drop_current(self) -> bool:
        """Give up the text that is being decoded; False if there is none, so no page came free."""
        if self._current is None:
            return False
        self._end(self._current)
        self._count_dropped()
        return True

    def _advance(self, decode: "PlainDecode") -> None:
        segment = decode.next_segment(self._prefill_chunk_tokens)
        if segment is None:
            self.drop_current()
            return
        logits = self._target.forward([segment])
        decode.length += len(segment.rows.tokens)
        if segment.rows.num_logits_rows:
            self._compare(decode.text, decode.length, logits.numpy()[0])
        if decode.is_over:
            self._end(decode)
            self._stats = replace(self._stats, num_texts=self._stats.num_texts + 1)

    def _compare(self, text: FinishedText, position: int, logits: Logits) -> None:
        found = compared(text, position, logits)
        self._stats = self._stats.with_one_more(found)
        if found.is_mismatch:
            log.event(
                _logger,
                "shadow_mismatch",
                level=logging.WARNING,
                position=position,
                committed_token=text.tokens[position],
                shadow_token=found.token,
                gap=found.gap,
            )

    def _count_dropped(self) -> None:
        self._stats = replace(self._stats, num_dropped=self._stats.num_dropped + 1)

    def _end(self, decode: "PlainDecode") -> None:
        decode.release()
        self._current = None


class PlainDecode:
    """A text that is being decoded, and its pages: one row a pass, once what was given is cached.

    They are never published: nobody adopts them, and once given back they do not push pages out of
    the pool that somebody may come back for.
    """

    def __init__(self, text: FinishedText, pool: PagePool) -> None:
        self.text = text
        self.length = 0  # tokens that are cached
        self._pool = pool
        self._pages: list[int] = []

    @property
    def is_over(self) -> bool:
        """Whether all is compared: nothing follows the last token, so it is not computed."""
        return self.length == len(self.text.tokens) - 1

    def next_segment(self, chunk_tokens: int) -> Segment | None:
        """A chunk of the given tokens without logits, or one row; None if there is no page."""
        num_prefill = self.text.num_given - 1 - self.length  # the last given one yields logits
        num_rows = max(min(num_prefill, chunk_tokens), 1)
        if not self._reserve(self.length + num_rows):
            return None
        tokens = self.text.tokens[self.length : self.length + num_rows]
        rows = Rows.chain(tokens, first_logits_row=num_rows if num_prefill > 0 else 0)
        return Segment(self._pages, self.length, rows)

    def release(self) -> None:
        """Give all pages back."""
        while self._pages:
            self._pool.release(self._pages.pop())

    def _reserve(self, num_tokens: int) -> bool:
        while len(self._pages) * self._pool.page_tokens < num_tokens:
            page = self._pool.allocate()
            if page is None:
                return False
            self._pages.append(page)
        return True


def _is_comparable(text: FinishedText) -> bool:
    return isinstance(text.rule, ExactRule) and text.num_given < len(text.tokens)


def _choice_point(text: FinishedText, position: int) -> ChoicePoint:
    """Row 0 of a pass without drafts."""
    return ChoicePoint(
        row=0,
        position=position,
        rule=text.rule,
        prompt_tokens=text.tokens[: text.num_prompt_tokens],
        output_tokens=text.tokens[text.num_prompt_tokens : position],
    )


def _scores(logits: Logits, point: ChoicePoint) -> Floats:
    """What `exact_token` takes the largest of, in logits: l' + T * Gumbel(seed, position), [vocab].

    l' are the penalised logits, T is the temperature. Tokens that may not be sampled are included.
    """
    params = point.rule.params
    if params.has_penalties:
        logits = penalise(logits, params, point.prompt_tokens, point.output_tokens)
    scores: Floats = logits.astype(np.float64)
    if not params.is_greedy:
        uniforms = noise.uniform_vocabulary(
            np, params.seed, Purpose.TOKEN, point.position, len(logits)
        )
        scores += params.temperature * noise.gumbel(np, uniforms)
    return scores


def _margin(scores: Floats, logits: Logits, point: ChoicePoint) -> float:
    """The distance between the two best tokens that may be chosen; infinite if only one may be."""
    params = point.rule.params
    if not params.is_greedy:
        sampled = distribution(logits, params, point.prompt_tokens, point.output_tokens)
        scores = scores[sampled.token_ids]
    if len(scores) == 1:
        return inf
    second, best = np.partition(scores, -2)[-2:]
    return float(best - second)
