"""What a trace says of a session at the verifier. Knows nothing of how spans are sent."""

from collections.abc import Mapping

from outrider_common import spans
from outrider_common.messages import Commit, OpenSession, ServerEvent
from outrider_common.spans import Value


class SessionSums:
    """What a session's commits add up to."""

    def __init__(self) -> None:
        self._num_tokens = 0
        self._num_accepted = 0
        self._num_passes = 0
        self._finish_reason: str | None = None

    def add(self, event: ServerEvent) -> None:
        """Take note of an event; errors are recorded by who raises them."""
        if isinstance(event, Commit):
            self._num_passes += 1
            self._num_tokens += len(event.tokens)
            self._num_accepted += event.num_accepted
            self._finish_reason = event.finish_reason and event.finish_reason.value

    def attributes(self) -> Mapping[str, Value]:
        """The sums as attributes."""
        reasons = (
            {} if self._finish_reason is None else {spans.FINISH_REASONS: (self._finish_reason,)}
        )
        return reasons | {
            spans.OUTPUT_TOKENS: self._num_tokens,
            spans.ACCEPTED_TOKENS: self._num_accepted,
            spans.PASSES: self._num_passes,
        }


def session_span(message: OpenSession, model: str) -> tuple[str, Mapping[str, Value]]:
    """The name of a session's span, and what is known at its beginning."""
    return f"session {model}", {
        spans.OPERATION: spans.GENERATE,
        spans.PROVIDER: spans.US,
        spans.RESPONSE_MODEL: model,
        spans.MAX_TOKENS: message.max_tokens,
        spans.INPUT_TOKENS: len(message.prefix),
    }
