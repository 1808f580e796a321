"""Counts what happens in one generation.

Takes records, commits and numbers sent; gives `GenerationStats`. Knows nothing of how they come.
"""

from collections import Counter

from outrider_common.messages import Commit
from outrider_common.records import GenerationStats, TokenOrigin, TokenRecord


class StatsCollector:
    """The counters of one generation, while it runs."""

    def __init__(self) -> None:
        self._origins: Counter[TokenOrigin] = Counter()
        self._num_drafts = 0
        self._num_sent = 0
        self._num_passes = 0
        self._accepted_per_position: Counter[int] = Counter()
        self._first_token_s: float | None = None
        self._last_token_s = 0.0
        self._num_rests = 0
        self._num_probes = 0
        self._num_resumes = 0
        self._bytes_up = 0
        self._bytes_down = 0

    def sent(self, num_nodes: int) -> None:
        """Draft nodes went to the verifier."""
        self._num_sent += num_nodes

    def committed(self, commit: Commit) -> None:
        """A pass was finished."""
        if commit.num_rows == 0:
            return  # no pass: the answer to a cancellation
        self._num_passes += 1
        self._num_drafts += commit.num_rows > 1
        self._accepted_per_position.update(range(commit.num_accepted))

    def passed(self, num_passes: int) -> None:
        """Passes of which nothing else is known any more."""
        self._num_passes += num_passes

    def token(self, record: TokenRecord) -> None:
        """A token became part of the answer."""
        self._origins[record.origin] += 1
        self._last_token_s = record.committed_at_s
        if self._first_token_s is None:
            self._first_token_s = record.committed_at_s

    def rested(self, num_rests: int, num_probes: int) -> None:
        """In a session, drafting was stopped so often, and tried again so often."""
        self._num_rests += num_rests
        self._num_probes += num_probes

    def carried(self, bytes_up: int, bytes_down: int) -> None:
        """So much went over a session's stream."""
        self._bytes_up += bytes_up
        self._bytes_down += bytes_down

    def resumed(self) -> None:
        """The answer goes on in a new session."""
        self._num_resumes += 1

    @property
    def num_passes(self) -> int:
        """Passes so far, over all sessions."""
        return self._num_passes

    def result(self) -> GenerationStats:
        """The sums so far."""
        positions = self._accepted_per_position
        return GenerationStats(
            num_accepted_tokens=self._origins[TokenOrigin.DRAFTED],
            num_corrections=self._origins[TokenOrigin.CORRECTED],
            num_hedged=self._origins[TokenOrigin.HEDGED],
            num_guessed=self._origins[TokenOrigin.GUESSED],
            num_drafts=self._num_drafts,
            num_draft_tokens=self._num_sent,
            num_accepted_tokens_per_pos=tuple(positions[i] for i in range(len(positions))),
            num_passes=self._num_passes,
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
            time_to_first_token_s=self._first_token_s,
            duration_s=self._last_token_s,
            num_rests=self._num_rests,
            num_probes=self._num_probes,
            num_resumes=self._num_resumes,
        )
