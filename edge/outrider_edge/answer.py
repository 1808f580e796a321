"""One answer as it grows, over all the sessions that it takes: tokens, text, and the sums.

Tells each token as it is committed, once. Knows nothing of links, tasks or how drafts are made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from outrider_common.errors import MismatchError
from outrider_common.messages import Commit, FinishReason, ModelInfo
from outrider_common.records import GenerationStats, TokenRecord
from outrider_common.tree import DraftNode
from outrider_edge.link import SessionLink
from outrider_edge.proposer import Learner
from outrider_edge.session import Clock, EdgeSession
from outrider_edge.statistics import StatsCollector
from outrider_edge.streaming_text import IncrementalDetokenizer, StopMatcher, TextSoFar
from outrider_edge.tracing import TraceRecorder

OnToken = Callable[[TokenRecord], None]
"""Takes each committed token with its text, in order; must return at once."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Where an answer ends by its tokens, as the verifier sees it, too.

    Attributes:
        max_length: the most tokens of prompt and answer together.
        stop_token_ids: tokens that end it.
    """

    max_length: int
    stop_token_ids: frozenset[int]

    @classmethod
    def of(
        cls,
        info: ModelInfo,
        num_prompt_tokens: int,
        max_tokens: int,
        stop_token_ids: Sequence[int],
        *,
        ignore_eos: bool,
    ) -> "Ending":
        """For an answer of a model."""
        eos = () if ignore_eos else info.eos_token_ids
        max_length = min(num_prompt_tokens + max_tokens, info.max_positions)
        return cls(max_length, frozenset((*stop_token_ids, *eos)))

    def reason(self, token: int, position: int) -> FinishReason | None:
        """Why nothing follows a token at a position; None if something does."""
        if token in self.stop_token_ids:
            return FinishReason.STOP
        return FinishReason.LENGTH if position + 1 >= self.max_length else None


class Answer:
    """What is known of an answer so far.

    Args:
        prompt: token ids.
        ending: where it ends by its tokens.
        detokenizer: a fresh one.
        stop_matcher: a fresh one.
        on_token: takes each token as it is committed.
        learner: learns from commits; None: nobody does.
        recorder: told of everything that happens and when; None: nobody is.
        clock: seconds since the request began.
        wants_logprobs: log-probabilities were asked for.
    """

    def __init__(
        self,
        prompt: tuple[int, ...],
        *,
        ending: Ending,
        detokenizer: IncrementalDetokenizer,
        stop_matcher: StopMatcher,
        on_token: OnToken,
        learner: Learner | None,
        recorder: TraceRecorder | None,
        clock: Clock,
        wants_logprobs: bool = False,
    ) -> None:
        self._prompt = prompt
        self._ending = ending
        self._text = TextSoFar(detokenizer, stop_matcher)
        self._on_token = on_token
        self._learner = learner
        self._recorder = recorder
        self._clock = clock
        self._wants_logprobs = wants_logprobs
        self._stats = StatsCollector()
        self._records: list[TokenRecord] = []
        self._num_sessions = 0

    # --- what is known --------------------------------------------------------------------------

    @property
    def records(self) -> tuple[TokenRecord, ...]:
        """One for each token, its text included."""
        return tuple(self._records)

    @property
    def text(self) -> str:
        """What has been told; text that a stop string may begin with is held back."""
        return "".join(record.text for record in self._records)

    @property
    def prefix(self) -> tuple[int, ...]:
        """The prompt and all committed tokens: what the next session begins with."""
        return (*self._prompt, *(record.token for record in self._records))

    @property
    def num_passes(self) -> int:
        """Verification passes so far."""
        return self._stats.num_passes

    @property
    def num_sessions(self) -> int:
        """Sessions that were opened."""
        return self._num_sessions

    @property
    def stats(self) -> GenerationStats:
        """The sums so far, without the session that runs."""
        return self._stats.result()

    # --- what happens ---------------------------------------------------------------------------

    def take_up(self, written: Sequence[TokenRecord]) -> FinishReason | None:
        """Begin with what was written and told before; why nothing follows it, if that is so."""
        if not written:
            return None
        self._num_sessions = 1  # there was at least one
        self._stats.passed(written[-1].pass_index + 1)
        for record in written:
            self._text.push(record.token)
            self._records.append(record)
            self._stats.token(record)
        return FinishReason.STOP if self._text.is_stopped else self._reason_after(written[-1])

    def opened(self) -> None:
        """A session was opened."""
        if self._num_sessions:
            self._stats.resumed()
            if self._recorder:
                self._recorder.resumed(self._clock())
        self._num_sessions += 1
        if self._recorder:
            self._recorder.opened(self._clock())

    def sent(self, nodes: Sequence[DraftNode], session: EdgeSession) -> None:
        """Draft nodes go to the verifier."""
        self._stats.sent(len(nodes))
        if self._recorder:
            hung = [session.hung(node.node_id) for node in nodes]
            self._recorder.sent(nodes, hung, self._clock())

    def drafted(self, began_s: float, ended_s: float, num_leaves: int, num_guesses: int) -> None:
        """The drafter was asked, and has answered."""
        if self._recorder:
            self._recorder.drafted(began_s, ended_s, num_leaves, num_guesses)

    def committed(self, commit: Commit, session: EdgeSession) -> FinishReason | None:
        """Take a commit; why the answer ends with it, if it does.

        Raises:
            MismatchError: log-probabilities were asked for, and there are none.
        """
        if self._wants_logprobs:
            _require_logprobs(commit)
        now_s = self._clock()
        self._stats.committed(commit)
        records = session.receive(commit)
        if self._recorder:
            self._recorder.committed(commit, len(records), now_s)
        if self._learner and commit.tokens:
            before = session.tree.tokens[commit.start - 1]
            self._learner.learn(before, commit.tokens, commit.runner_ups)
        reason = commit.finish_reason or (self._reason_after(records[-1]) if records else None)
        for i, record in enumerate(records, start=1):
            self._add(record, is_last=reason is not None and i == len(records))
            if self._text.is_stopped:
                return FinishReason.STOP
        return reason

    def left(self, stream: SessionLink, session: EdgeSession | None) -> None:
        """A session is over, or could not be opened: None."""
        self._stats.carried(stream.bytes_up, stream.bytes_down)
        if session is not None:
            self._stats.rested(session.num_rests, session.num_probes)

    def _add(self, record: TokenRecord, *, is_last: bool) -> None:
        """One more token; nothing that follows a stop string may be added."""
        record = replace(record, text=self._text.push(record.token, is_last=is_last))
        self._records.append(record)
        self._stats.token(record)
        self._on_token(record)

    def _reason_after(self, record: TokenRecord) -> FinishReason | None:
        return self._ending.reason(record.token, record.position)


def _require_logprobs(commit: Commit) -> None:
    if len(commit.logprobs) != len(commit.tokens):
        raise MismatchError(
            "The verifier sends no log-probabilities; install the same release of outrider on both "
            "sides, or ask without logprobs."
        )
