"""Whether a generation whose session ended too early goes on in another one, and when.

Pure: times are passed in. Knows nothing of sessions, streams and tasks.
"""

from dataclasses import dataclass, field
from typing import Final

from outrider_common.errors import (
    BrokenOffError,
    CapacityError,
    OutriderError,
    UnavailableError,
)
from outrider_edge.backoff import Backoff
from outrider_edge.heartbeat import SilenceError

MAX_FAULTS: Final = 2
"""A request that makes verifiers fail is not passed on for ever: so often, without a token."""


@dataclass(frozen=True, slots=True)
class Patience:
    """For how long a generation tries to go on.

    Attributes:
        open_s: to open its first session; every verifier is tried once in any case.
        resume_s: after a break, until there is a token more; 0 does not try.
        heartbeat_s: a verifier that is silent for so long is taken to be gone; 0 waits for ever.
        alone_s: to go on, or to begin, while no verifier takes sessions; None: as long as ever.
        num_breaks: so many sessions of this answer broke before; see `Resuming.opening_s`.
    """

    open_s: float = 5.0
    resume_s: float = 60.0
    heartbeat_s: float = 2.0
    alone_s: float | None = None
    num_breaks: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a generation has come.

    Attributes:
        num_tokens: that are committed.
        was_opened: it has had a session.
    """

    num_tokens: int
    was_opened: bool


@dataclass(slots=True)
class Resuming:
    """The breaks of one generation.

    Attributes:
        patience: its bounds.
        backoff: its pauses.
    """

    patience: Patience
    backoff: Backoff = field(default_factory=Backoff)
    _since_s: float | None = field(init=False, default=None)
    _num_tokens: int = field(init=False, default=0)
    _num_breaks: int = field(init=False, default=0)
    _num_faults: int = field(init=False, default=0)

    def pause_s(
        self, error: OutriderError, progress: Progress, now_s: float, *, has_alternative: bool
    ) -> float:
        """How long to wait before the next session is opened.

        The first try comes at once, and so does one at another verifier.

        Args:
            error: what ended the session.
            progress: how far the answer is.
            now_s: since the request began.
            has_alternative: another verifier would take a session now.

        Raises:
            BrokenOffError: there was no token more for too long.
            OutriderError: the error itself, where another session would not help.
        """
        self._note(error, progress, now_s)
        if not self._may_help(error, progress, has_alternative):
            raise error
        if has_alternative:
            return 0.0
        if self.patience.alone_s is not None and isinstance(error, SilenceError):
            raise error  # it has taken long enough
        pause_s = self.backoff.next_s(error.retry_after_s) if self._is_repeated(error) else 0.0
        if now_s + pause_s >= self._deadline_s(progress):
            raise error
        return pause_s

    @property
    def opening_s(self) -> float:
        """How long the next session may take to be opened before another way is tried.

        A connection that stands answers within the longest silence, or never; one that has yet to
        be made takes several round trips, so each further try may take twice as long.
        """
        if not self.patience.heartbeat_s:
            return self.patience.open_s
        num_breaks = self.patience.num_breaks + self._num_breaks
        return min(self.patience.open_s, self.patience.heartbeat_s * 2.0**num_breaks)

    def given_up(self, error: OutriderError, text: str, num_tokens: int) -> OutriderError:
        """What the caller is told: the error, with what was written before it."""
        if num_tokens == 0 or not isinstance(error, UnavailableError | CapacityError):
            return error
        return BrokenOffError(
            f"The answer broke off after {num_tokens} tokens and could not be gone on with within "
            f"{self.patience.resume_s:g} s (edge.resume_timeout_s): {error}",
            text,
            num_tokens,
        )

    def _note(self, error: OutriderError, progress: Progress, now_s: float) -> None:
        if self._since_s is None or progress.num_tokens > self._num_tokens:
            self._since_s = now_s if progress.was_opened else 0.0
            self._num_tokens = progress.num_tokens
            self._num_breaks = self._num_faults = 0
            self.backoff.reset()
        self._num_breaks += 1
        self._num_faults += not isinstance(error, UnavailableError | CapacityError)

    def _may_help(self, error: OutriderError, progress: Progress, has_alternative: bool) -> bool:
        """Whether it is the verifier or the way to it that failed, and not the request."""
        if progress.was_opened and self.patience.resume_s == 0:
            return False
        match error:
            case UnavailableError():
                return True
            case CapacityError():
                return progress.was_opened or has_alternative
            case _:
                return error.reason == OutriderError.reason and self._num_faults < MAX_FAULTS

    def _is_repeated(self, error: OutriderError) -> bool:
        return self._num_breaks > 1 or error.retry_after_s is not None

    def _deadline_s(self, progress: Progress) -> float:
        assert self._since_s is not None  # there was a break
        patience_s = self.patience.resume_s if progress.was_opened else self.patience.open_s
        alone_s = self.patience.alone_s
        return self._since_s + (patience_s if alone_s is None else min(alone_s, patience_s))
