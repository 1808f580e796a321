"""A target that is no model: a hash for the next token, a stated time for a pass.

Runs behind the same engine, scheduler and service as a real one, so that thousands of sessions can
be load-tested. Its cache holds a token for each slot and the next token is read back from there, so
that a wrong page table gives a wrong text. Knows nothing of sessions or acceptance.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from outrider_cloud.choice import (
    ChoicePoint,
    Logits,
    choose_one,
    logprobs_of_one,
    runner_ups_of_one,
)
from outrider_cloud.page_tables import Ints, PageTables, begins, ints, within
from outrider_cloud.paged_sequence import Move
from outrider_cloud.target import CACHED_TEXT, CacheShape, Segment
from outrider_common.acceptance import ExactRule
from outrider_common.logprobs import TokenLogprobs
from outrider_common.synthetic import EOS, SyntheticSpec, seen_positions, token_after

PEAK: Final = 64.0
"""The logit of the next token; that of all others is 0, but for the end of text, which is never.

More than twice what the noise of sampling can make up (`noise.gumbel`: 26.02). So up to a
temperature of 2 the sampled text is the greedy one, and the stated acceptance holds for it, too.
"""

_NOTHING: Final = -1


class SyntheticLogits:
    """The logits of one pass, known by their peaks: no row is made unless a rule has to see it.

    Args:
        peaks: the target's token at each row.
        vocab: how many logits a row has.
    """

    def __init__(self, peaks: Ints, vocab: int) -> None:
        self._peaks = peaks
        self._vocab = vocab

    @property
    def num_rows(self) -> int:
        """How many rows of logits there are."""
        return len(self._peaks)

    @property
    def chooses_whole_trees(self) -> bool:
        """A point costs the same whenever it is asked for, so only what is needed should be."""
        return False

    def choose(self, points: Sequence[ChoicePoint]) -> list[int]:
        """See `PassLogits.choose`."""
        peaks = self._peaks[[point.row for point in points]].tolist()
        return [
            peak if _takes_the_peak(point) else choose_one(self._rows([peak])[0], point)
            for peak, point in zip(peaks, points, strict=True)
        ]

    def runner_ups(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[tuple[int, ...]]:
        """See `PassLogits.runner_ups`; all tokens but the peak and the end are equally likely."""
        pairs = zip(self._rows(self._peaks[list(rows)]), tokens, strict=True)
        return [runner_ups_of_one(logits, token, count) for logits, token in pairs]

    def logprobs(
        self, rows: Sequence[int], tokens: Sequence[int], count: int
    ) -> list[TokenLogprobs]:
        """See `PassLogits.logprobs`; all tokens but the peak and the end are equally likely."""
        pairs = zip(self._rows(self._peaks[list(rows)]), tokens, strict=True)
        return [logprobs_of_one(logits, token, count) for logits, token in pairs]

    def numpy(self) -> Logits:
        """See `PassLogits.numpy`."""
        return self._rows(self._peaks)

    def _rows(self, peaks: Sequence[int] | Ints) -> Logits:
        logits = np.zeros((len(peaks), self._vocab), dtype=np.float32)
        logits[:, EOS] = -np.inf
        logits[np.arange(len(peaks)), peaks] = PEAK
        return logits


class SyntheticPass:
    """A pass that ends at a stated time, as one on a device would; the host is free until then.

    Args:
        logits: what it yields.
        ends_at: when, by the clock.
        sleep: waits for so many seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        logits: SyntheticLogits,
        ends_at: float,
        sleep: Callable[[float], object],
        clock: Callable[[], float],
    ) -> None:
        self._logits = logits
        self._ends_at = ends_at
        self._sleep = sleep
        self._clock = clock

    def result(self) -> SyntheticLogits:
        """See `RunningPass.result`."""
        left_s = self._ends_at - self._clock()
        if left_s > 0:
            self._sleep(left_s)
        return self._logits


class SyntheticTarget:
    """A target that follows a spec.

    Args:
        spec: its text, and what a pass takes.
        num_pages: pages of the KV cache.
        page_tokens: tokens that a page has room for.
        other_work: asked as a pass begins, for how many seconds its device has something else to
            do first.
        sleep: waits for so many seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        spec: SyntheticSpec,
        num_pages: int,
        page_tokens: int = 16,
        other_work: Callable[[], float] = lambda: 0.0,
        sleep: Callable[[float], object] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._spec = spec
        self._shape = CacheShape(num_pages, page_tokens, spec.kv_bytes * page_tokens)
        self._slots = np.full(num_pages * page_tokens, _NOTHING, dtype=np.int32)
        self._other_work = other_work
        self._sleep = sleep
        self._clock = clock

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        return self._spec.vocab

    @property
    def max_positions(self) -> int:
        """The most tokens of one sequence."""
        return self._spec.positions

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """The end-of-text id, which is never chosen."""
        return (EOS,)

    @property
    def cache_shape(self) -> CacheShape:
        """How many pages there are, and how large they are said to be."""
        return self._shape

    def begin(self, segments: Sequence[Segment]) -> "SyntheticPass":
        """Compute the rows of several sequences in one pass; see `Target.begin`.

        Takes c0 + c1 * rows, after any other work: what the computing here has not used is slept
        when it is waited for.
        """
        began = self._clock()
        tables = PageTables.of(segments, self._shape.page_tokens)
        num_rows = self._write(segments, tables)
        logits = SyntheticLogits(self._next_tokens(segments, tables), self._spec.vocab)
        ends_at = began + self._other_work() + self._spec.pass_s(num_rows)
        return SyntheticPass(logits, ends_at, self._sleep, self._clock)

    def forward(self, segments: Sequence[Segment]) -> SyntheticLogits:
        """See `Target.forward`."""
        return self.begin(segments).result()

    def move(self, moves: Sequence[Move]) -> None:
        """Copy what is cached, one slot after the other."""
        for move in moves:
            self._slots[move.destination] = self._slots[move.source]

    def _write(self, segments: Sequence[Segment], tables: PageTables) -> int:
        """Cache the tokens of all rows; how many there are."""
        slots = tables.slots_of_rows(segments)
        self._slots[slots] = ints(
            chain.from_iterable(segment.rows.tokens for segment in segments), len(slots)
        )
        return len(slots)

    def _next_tokens(self, segments: Sequence[Segment], tables: PageTables) -> Ints:
        """The target's token after the path of each wanted row."""
        paths = _Paths.of(segments)
        if not len(paths.owners):
            return paths.owners
        cached = tables.lengths[paths.owners]
        lengths = cached + paths.depths[paths.wanted] + 1
        seen: list[Ints] = []
        for positions in seen_positions(self._spec, lengths):
            rows = paths.ancestors(positions - cached)
            places = np.where(positions < cached, positions, cached + paths.offsets[rows])
            seen.append(self._slots[tables.slots(paths.owners, places)].astype(np.int64))
        return token_after(self._spec, lengths, seen)


@dataclass(frozen=True, slots=True)
class _Paths:
    """The rows of all segments of which logits are wanted, and their ancestors.

    Prefill wants none, so that its rows cost nothing here.

    Attributes:
        parents: the parent of each row; a row that follows the cached text is its own, [rows].
        depths: how many rows each path has above its last one, [rows].
        offsets: the index of each row within its segment, [rows].
        wanted: the rows whose logits are wanted, [wanted].
        owners: the segments of these, [wanted].
    """

    parents: Ints
    depths: Ints
    offsets: Ints
    wanted: Ints
    owners: Ints

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "_Paths":
        indices = [i for i, segment in enumerate(segments) if segment.rows.num_logits_rows]
        all_rows = [segments[i].rows for i in indices]
        sizes = [len(rows.tokens) for rows in all_rows]
        owners, offsets = within(sizes)
        parents = ints(chain.from_iterable(rows.parents for rows in all_rows), sum(sizes))
        parents = np.where(parents == CACHED_TEXT, offsets, parents) + begins(sizes)[owners]
        firsts = ints((rows.first_logits_row for rows in all_rows), len(all_rows))
        wanted = np.flatnonzero(offsets >= firsts[owners])
        return cls(
            parents=parents,
            depths=_depths(parents),
            offsets=offsets,
            wanted=wanted,
            owners=ints(indices, len(indices))[owners[wanted]],
        )

    def ancestors(self, depths: Ints) -> Ints:
        """For each wanted row the one on its path that is so deep; itself where that is below 0."""
        rows = self.wanted
        while (is_deeper := (depths >= 0) & (self.depths[rows] > depths)).any():
            rows = np.where(is_deeper, self.parents[rows], rows)
        return rows


def _depths(parents: Ints) -> Ints:
    """How many rows lie above each row, where a row at the top is its own parent."""
    depths = np.zeros(len(parents), dtype=np.int64)
    rows = np.arange(len(parents))
    while (is_below := parents[rows] != rows).any():
        depths += is_below
        rows = parents[rows]
    return depths


def _takes_the_peak(point: ChoicePoint) -> bool:
    params = point.rule.params
    return isinstance(point.rule, ExactRule) and params.is_greedy and not params.has_penalties
