"""Sums over the answers of an edge: all of them, and the latest.

Pure. Knows nothing of how answers come.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from outrider_common.records import GenerationStats

LATEST: Final = 32
"""So many answers are the latest."""

Json = dict[str, object]


class AnswerSums:
    """Adds up the figures of completed answers."""

    def __init__(self) -> None:
        self._all = _Sum()
        self._latest: deque[GenerationStats] = deque(maxlen=LATEST)

    def add(self, stats: GenerationStats) -> None:
        """One more answer is complete."""
        self._all.add(stats)
        self._latest.append(stats)

    @property
    def num_answers(self) -> int:
        """All completed answers."""
        return self._all.num_answers

    def total(self) -> Json:
        """The figures of all answers."""
        return self._all.as_json()

    def latest(self) -> Json:
        """The figures of the latest answers."""
        return _Sum.of(self._latest).as_json()


class _Sum:
    def __init__(self) -> None:
        self.num_answers = 0
        self._num_tokens = 0
        self._num_accepted = 0
        self._num_corrected = 0
        self._num_passes = 0
        self._num_rests = 0
        self._num_resumes = 0
        self._seconds = 0.0

    @classmethod
    def of(cls, answers: Iterable[GenerationStats]) -> "_Sum":
        total = cls()
        for stats in answers:
            total.add(stats)
        return total

    def add(self, stats: GenerationStats) -> None:
        self.num_answers += 1
        self._num_tokens += stats.num_tokens
        self._num_accepted += stats.num_accepted_tokens
        self._num_corrected += stats.num_corrections
        self._num_passes += stats.num_passes
        self._num_rests += stats.num_rests
        self._num_resumes += stats.num_resumes
        self._seconds += stats.duration_s

    def as_json(self) -> Json:
        """Counters and ratios; a ratio of nothing is None."""
        return {
            "num_answers": self.num_answers,
            "num_tokens": self._num_tokens,
            "num_accepted_tokens": self._num_accepted,
            "num_corrections": self._num_corrected,
            "num_passes": self._num_passes,
            "num_rests": self._num_rests,
            "num_resumes": self._num_resumes,
            "tokens_per_s": _ratio(self._num_tokens, self._seconds),
            "acceptance_rate": _ratio(self._num_accepted, self._num_accepted + self._num_corrected),
            "tokens_per_pass": _ratio(self._num_tokens, self._num_passes),
        }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None
