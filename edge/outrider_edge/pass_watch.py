"""Learns the pace of link and verifier from the commits of one session.

Pure: times are passed in. Knows nothing of what is drafted or why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from outrider_common.messages import Commit
from outrider_common.tree import Committed
from outrider_edge.estimators import Estimators
from outrider_edge.guess_tree import GuessTree


@dataclass(frozen=True, slots=True)
class _Pass:
    """When a pass's commit came, and when the pass began as the edge sees it."""

    committed_at_s: float
    began_at_s: float


class PassWatch:
    """Tells estimators when passes ended, and how long nodes travelled.

    Args:
        estimators: who is told.
        guesses: knows when nodes were sent.
    """

    def __init__(self, estimators: Estimators, guesses: GuessTree) -> None:
        self._estimators = estimators
        self._guesses = guesses
        self._last: _Pass | None = None

    @property
    def committed_at_s(self) -> float | None:
        """When the latest commit of a pass came; None before the first."""
        return self._last.committed_at_s if self._last else None

    def saw(self, commit: Commit, committed: Sequence[Committed], now_s: float) -> None:
        """A commit came that made these tokens final."""
        if commit.num_rows == 0:
            return  # no pass: the answer to a cancellation
        began_at_s = now_s - commit.pass_us / 1e6
        self._estimators.passed(commit.pass_us / 1e6, commit.queue_us / 1e6, commit.num_rows)
        if self._last is not None:
            self._estimators.waited(now_s - self._last.committed_at_s)
            for entry in committed:
                is_in_time = entry.position - commit.start < commit.num_accepted
                self._saw_node(entry, is_in_time, self._last.began_at_s, began_at_s)
        self._last = _Pass(now_s, began_at_s)

    def _saw_node(
        self, entry: Committed, is_in_time: bool, previous_s: float, began_at_s: float
    ) -> None:
        """Learn how long a node travelled, from the starts of two passes."""
        hung = self._guesses.hung(entry.node_id)
        if hung is None or hung.sent_at_s is None:
            return
        if is_in_time:
            at_least_s, at_most_s = previous_s - hung.sent_at_s, began_at_s - hung.sent_at_s
            self._estimators.arrived(at_least_s, at_most_s)
        else:
            self._estimators.came_late(began_at_s - hung.sent_at_s)
