"""The figures of one answer in a chat, in a line.

Pure. Knows nothing of where answers come from.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_edge.estimators import Estimates
from outrider_edge.status_view import in_ms


@dataclass(frozen=True, slots=True)
class AnswerFigures:
    """What is said of a completed answer.

    Attributes:
        finish_reason: why it ended; None: no verifier has seen its end.
        acceptance_mode: how drafts were judged.
        stats: the sums.
        estimates: the pace of link, verifier and drafter; None where it is not known.
    """

    finish_reason: FinishReason | None
    acceptance_mode: AcceptanceMode
    stats: GenerationStats
    estimates: Estimates | None

    @property
    def writing_tokens_per_s(self) -> float | None:
        """The pace once the first token is there; None for a single token."""
        stats = self.stats
        seconds = stats.duration_s - (stats.time_to_first_token_s or 0.0)
        return (stats.num_tokens - 1) / seconds if stats.num_tokens > 1 and seconds > 0 else None

    @property
    def speed_up(self) -> float | None:
        """How many times as fast as the cloud alone, estimated; None if that is not known yet.

        The cloud alone writes a token with each pass of a single row, after waiting for it as
        long as this answer's passes did.
        """
        if self.estimates is None or self.writing_tokens_per_s is None:
            return None
        step_s = self.estimates.plain_pass_s
        return step_s and self.writing_tokens_per_s * (step_s + (self.estimates.queue_s or 0.0))

    def line(self, max_tokens: int) -> str:
        """All of them in a line.

        Args:
            max_tokens: what the answer was limited to.
        """
        return ", ".join(self._parts(max_tokens))

    def _parts(self, max_tokens: int) -> Iterator[str]:
        stats = self.stats
        if self.finish_reason is None:
            yield f"not verified after {stats.num_tokens} tokens, as no verifier was there in time"
            return
        yield f"{stats.num_tokens} tokens"
        yield f"{self.writing_tokens_per_s or stats.tokens_per_s:.1f} tokens/s"
        if self.speed_up is not None:
            yield f"about {self.speed_up:.1f} times the cloud alone"
        if stats.num_accepted_tokens + stats.num_corrections:
            yield f"acceptance {stats.acceptance_rate:.2f}"
        if self.estimates is not None and self.estimates.round_trip_s is not None:
            yield f"round trip {in_ms(self.estimates.round_trip_s)}"
        if not self.acceptance_mode.is_lossless:
            yield f"lossy ({self.acceptance_mode.value})"
        if self.finish_reason is FinishReason.LENGTH:
            yield _why_cut(stats.num_tokens, max_tokens)


def _why_cut(num_tokens: int, max_tokens: int) -> str:
    if num_tokens < max_tokens:
        return "cut: the model has no more positions, /reset begins anew"
    return f"cut at max_tokens, /set max_tokens={2 * max_tokens} gives longer answers"
