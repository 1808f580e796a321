"""A target that plays a recording: the real model's greedy answers, and as long a pass.

Runs behind the same engine, scheduler and service as the model itself, and leaves processor and
memory to others: what an edge gains where the verifier is another machine can be measured on one.
Its cache holds for each slot a digest of the text up to there, so that a wrong page table gives a
wrong text. After a text that is not recorded it ends the answer.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.page_tables import PageTables, ints
from outrider_cloud.paged_sequence import Move
from outrider_cloud.synthetic_target import SyntheticLogits, SyntheticPass
from outrider_cloud.target import CACHED_TEXT, CacheShape, Segment
from outrider_common.recording import RecordedText, Recording

_NO_TEXT: Final = 0
_MASK: Final = 2**63 - 1
_MULTIPLIER: Final = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio


class RecordedTarget:
    """A target as it was heard.

    Args:
        recording: its answers, and what a pass takes.
        num_pages: pages of the KV cache.
        page_tokens: tokens that a page has room for.
        bytes_per_token: what the KV cache is said to take for a token.
        sleep: waits for so many seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        recording: Recording,
        num_pages: int,
        page_tokens: int = 16,
        bytes_per_token: int = 1024,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._recording = recording
        self._shape = CacheShape(num_pages, page_tokens, bytes_per_token * page_tokens)
        self._digests: NDArray[np.int64] = np.zeros(num_pages * page_tokens, dtype=np.int64)
        self._next: dict[int, int] = {}
        for text in recording.texts:
            self._next |= _next_tokens(text)
        self._sleep = sleep
        self._clock = clock

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._recording.vocab_size

    @property
    def max_positions(self) -> int:
        """The most tokens of one sequence."""
        return self._recording.max_positions

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Ids that end a generation."""
        return self._recording.eos_token_ids

    @property
    def cache_shape(self) -> CacheShape:
        """How many pages there are, and how large they are said to be."""
        return self._shape

    def begin(self, segments: Sequence[Segment]) -> SyntheticPass:
        """Play one pass; see `Target.begin`. It takes c0 + c1 * rows."""
        began = self._clock()
        tables = PageTables.of(segments, self._shape.page_tokens)
        digests = self._digests_of_rows(segments, tables)
        rows = [digest for each in digests for digest in each]
        self._digests[tables.slots_of_rows(segments)] = rows
        peaks = ints(self._choices(segments, digests), sum(map(_num_wanted, segments)))
        ends_at = began + self._recording.pass_s(len(rows))
        logits = SyntheticLogits(peaks, self.vocab_size)
        return SyntheticPass(logits, ends_at, self._sleep, self._clock)

    def forward(self, segments: Sequence[Segment]) -> SyntheticLogits:
        """See `Target.forward`."""
        return self.begin(segments).result()

    def move(self, moves: Sequence[Move]) -> None:
        """Copy what is cached, one slot after the other."""
        for move in moves:
            self._digests[move.destination] = self._digests[move.source]

    def _digests_of_rows(self, segments: Sequence[Segment], tables: PageTables) -> list[list[int]]:
        """For each segment the digests of the texts that end with its rows."""
        cached = np.flatnonzero(tables.lengths)
        above = np.full(len(segments), _NO_TEXT, dtype=np.int64)
        above[cached] = self._digests[tables.slots(cached, tables.lengths[cached] - 1)]
        return [
            _digests_below(digest, segment)
            for digest, segment in zip(above.tolist(), segments, strict=True)
        ]

    def _choices(self, segments: Sequence[Segment], digests: Sequence[list[int]]) -> list[int]:
        """The target's token after each row of which it is wanted."""
        end = self.eos_token_ids[0]
        return [
            self._next.get(digest, end)
            for segment, each in zip(segments, digests, strict=True)
            for digest in each[segment.rows.first_logits_row :]
        ]


def _num_wanted(segment: Segment) -> int:
    return segment.rows.num_logits_rows


def _digests_below(above: int, segment: Segment) -> list[int]:
    found: list[int] = []
    for token, parent in zip(segment.rows.tokens, segment.rows.parents, strict=True):
        found.append(_digest(above if parent == CACHED_TEXT else found[parent], token))
    return found


def _next_tokens(text: RecordedText) -> dict[int, int]:
    """By the digest of what was there: what the target wrote next."""
    found, digest = {}, _NO_TEXT
    for token in text.prompt:
        digest = _digest(digest, token)
    for token in text.answer:
        found[digest] = token
        digest = _digest(digest, token)
    return found


def _digest(above: int, token: int) -> int:
    """Of a text: from that of all but its last token, and this one. Fits int64; never `_NO_TEXT`
    but by chance.
    """
    product = (above ^ (token + 1)) * _MULTIPLIER
    return (product ^ (product >> 32)) & _MASK
