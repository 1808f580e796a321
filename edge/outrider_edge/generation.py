"""One generation: drafting, sending and receiving as three tasks around one session.

The drafter never waits for a verdict while there is room in its tree; the verifier's commits are
turned to text as they come. Knows nothing of gRPC, models or terminals: they are passed in.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from outrider_common import log
from outrider_common.acceptance import Acceptance, AcceptanceMode
from outrider_common.errors import MismatchError, UnavailableError, ungrouped
from outrider_common.messages import (
    Commit,
    FinishReason,
    GoAway,
    ModelInfo,
    Opened,
    OpenSession,
)
from outrider_common.records import GenerationStats, TokenRecord
from outrider_common.sampling import SamplingParams
from outrider_common.tree import DraftNode
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimators
from outrider_edge.link import SessionLink, VerifierLink
from outrider_edge.policies import AUTO, DraftingPolicy
from outrider_edge.proposer import Draft, Learner, Proposer
from outrider_edge.session import DraftRun, EdgeSession
from outrider_edge.statistics import StatsCollector
from outrider_edge.streaming_text import IncrementalDetokenizer, StopMatcher
from outrider_edge.tracing import TraceRecorder

_logger = logging.getLogger(__name__)

MAX_STEADY_TOKENS: Final = 2
"""A proposer that has at most so many tokens more to read than the last time is in full swing."""

OnToken = Callable[[TokenRecord], None]
"""Takes each committed token with its text, in order; must return at once."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What to generate.

    Attributes:
        prompt: token ids, at least one.
        max_tokens: the most tokens of the answer.
        sampling: how the target chooses its tokens.
        stop_strings: the answer ends before the first of these.
        stop_token_ids: tokens that end the answer, beside the model's own end-of-text ids.
        ignore_eos: do not stop at the model's own end-of-text ids.
        acceptance: how drafts are judged.
        num_top_logprobs: the records shall say how likely the target found each token, and so many
            of the likeliest; None: they need not.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    acceptance: Acceptance = field(default_factory=Acceptance)
    num_top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """An answer.

    Attributes:
        text: without stop strings and special tokens.
        finish_reason: why it ended.
        records: one for each token, its text included.
        stats: the sums.
        acceptance_mode: how drafts were judged; the text of a lossy mode is not the target's own.
    """

    text: str
    finish_reason: FinishReason
    records: tuple[TokenRecord, ...]
    stats: GenerationStats
    acceptance_mode: AcceptanceMode = AcceptanceMode.EXACT

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of the answer, a final end-of-text token included."""
        return tuple(record.token for record in self.records)


@dataclass(slots=True)
class _Answer:
    """The text as it grows."""

    detokenizer: IncrementalDetokenizer
    stop_matcher: StopMatcher
    on_token: OnToken
    records: list[TokenRecord] = field(default_factory=list)

    @property
    def is_stopped(self) -> bool:
        return self.stop_matcher.stop is not None

    def add(self, record: TokenRecord, *, is_last: bool) -> None:
        """One more token; nothing that follows a stop string may be added."""
        text = self.stop_matcher.push(self.detokenizer.push(record.token))
        if is_last and not self.is_stopped:
            text += self.stop_matcher.push(self.detokenizer.flush()) + self.stop_matcher.flush()
        record = replace(record, text=text)
        self.records.append(record)
        self.on_token(record)


class Generation:
    """Runs one request against one verifier.

    Args:
        request: what to generate.
        link: the way to the verifier.
        info: what the verifier said of its model.
        tokenizer_fingerprint: of the edge's own tokenizer.
        proposer: drafts for this generation.
        proposer_name: for the records.
        detokenizer: a fresh one.
        executor: where drafting runs, so that it does not hold up the network.
        max_depth: draft nodes ahead of the committed text at most.
        on_token: takes each token as it is committed.
        calibration: what guesses are worth; it learns. Fresh if None.
        estimators: the pace of link, verifier and drafter; they learn. Fresh if None.
        policy: how the session may draft.
        recorder: told of everything that happens and when; None: nobody is.
    """

    def __init__(
        self,
        request: GenerationRequest,
        *,
        link: VerifierLink,
        info: ModelInfo,
        tokenizer_fingerprint: str,
        proposer: Proposer,
        proposer_name: str,
        detokenizer: IncrementalDetokenizer,
        executor: Executor,
        max_depth: int,
        on_token: OnToken,
        calibration: Calibration | None = None,
        estimators: Estimators | None = None,
        policy: DraftingPolicy = AUTO,
        recorder: TraceRecorder | None = None,
    ) -> None:
        self._request = request
        self._link = link
        self._info = info
        self._fingerprint = tokenizer_fingerprint
        self._proposer = proposer
        self._learner = proposer if isinstance(proposer, Learner) else None
        self._proposer_name = proposer_name
        self._executor = executor
        self._max_depth = max_depth
        self._calibration = calibration
        self._estimators = estimators or Estimators()
        self._policy = policy
        self._recorder = recorder
        self._began = 0.0  # by the performance counter
        self._num_read = 0  # tokens that the proposer saw when it was last asked
        self._answer = _Answer(detokenizer, StopMatcher(request.stop_strings), on_token)
        self._stats = StatsCollector()
        self._room = asyncio.Event()  # the tree has changed: look again for a point to draft from
        self._drafted = asyncio.Event()  # there are nodes to send

    async def run(self) -> GenerationResult:
        """Generate the answer.

        Raises:
            OutriderError: the verifier refused the request, or the link broke.
        """
        self._began = time.perf_counter()
        stream = await self._link.open(self._open_message(), self._info.limits.max_message_bytes)
        try:
            opened = await _opened(stream, self._request.acceptance.mode)
            self._note_opened()
            session = self._make_session(opened)
            finish_reason = await self._converse(stream, session)
        finally:
            stream.close()
        return GenerationResult(
            text="".join(record.text for record in self._answer.records),
            finish_reason=finish_reason,
            records=tuple(self._answer.records),
            stats=self._close_the_books(stream, session),
            acceptance_mode=self._request.acceptance.mode,
        )

    def _now_s(self) -> float:
        """Seconds since the request began."""
        return time.perf_counter() - self._began

    def _note_opened(self) -> None:
        now_s = self._now_s()
        self._estimators.opened(now_s)
        if self._recorder:
            self._recorder.opened(now_s)

    def _close_the_books(self, stream: SessionLink, session: EdgeSession) -> GenerationStats:
        """The sums, and an event that says at what pace things were estimated to go."""
        estimates = asdict(self._estimators.estimates())
        log.event(_logger, "generation_paced", level=logging.DEBUG, **estimates)
        self._stats.rested(session.num_rests, session.num_probes)
        return self._stats.result(stream.bytes_up, stream.bytes_down)

    def _open_message(self) -> OpenSession:
        request = self._request
        return OpenSession(
            prefix=request.prompt,
            num_prompt_tokens=len(request.prompt),
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            tokenizer_fingerprint=self._fingerprint,
            model=self._info.model,
            stop_token_ids=request.stop_token_ids,
            ignore_eos=request.ignore_eos,
            acceptance=request.acceptance,
            num_top_logprobs=request.num_top_logprobs,
            num_runner_ups=self._learner.num_runner_ups if self._learner else 0,
            own_guesses=self._policy.own_guesses,
            waits_for_drafts=self._policy.waits_for_drafts,
        )

    def _make_session(self, opened: Opened) -> EdgeSession:
        max_length = min(
            len(self._request.prompt) + self._request.max_tokens, self._info.max_positions
        )
        return EdgeSession(
            self._request.prompt,
            max_outstanding_nodes=opened.limits.max_outstanding_nodes,
            max_depth=self._max_depth,
            max_length=max_length,
            calibration=self._calibration,
            regime=self._regime(),
            policy=self._policy,
            estimators=self._estimators,
            clock=self._now_s,
        )

    def _regime(self) -> str:
        """The name under which guesses are calibrated beside those of the same regime."""
        choice = "greedy" if self._request.sampling.is_greedy else "sampled"
        return f"{choice} {self._request.acceptance.mode.value}"

    async def _converse(self, stream: SessionLink, session: EdgeSession) -> FinishReason:
        with ungrouped():
            async with asyncio.TaskGroup() as tasks:
                drafter = tasks.create_task(self._draft_safely(session), name="draft")
                sender = tasks.create_task(self._send(stream, session), name="send")
                finish_reason = await self._receive(stream, session)
                drafter.cancel()
                sender.cancel()
        return finish_reason

    async def _draft_safely(self, session: EdgeSession) -> None:
        """Draft; a drafter that fails costs this answer speed, and nothing else."""
        try:
            await self._draft(session)
        except Exception as error:  # whatever a model runtime may raise
            log.event(_logger, "drafter_failed", level=logging.ERROR, error=error)

    async def _draft(self, session: EdgeSession) -> None:
        """Draft from the best leaves while there are some; then wait for the tree to change."""
        while True:
            self._room.clear()
            run = session.next_run()
            if session.has_unsent:
                self._drafted.set()
                await asyncio.sleep(0)  # what is there goes before the drafter takes the processor
            if run is None:
                await self._room.wait()
                continue
            patience = asyncio.get_running_loop().call_later(session.patience_s, self._drafted.set)
            drafts = await self._expand(run)
            patience.cancel()
            session.add(run, drafts, self._proposer_name)

    async def _expand(self, run: DraftRun) -> list[Draft]:
        loop = asyncio.get_running_loop()
        began_s = self._now_s()
        drafts = await loop.run_in_executor(
            self._executor, self._proposer.expand, run.text, run.paths, run.max_depth
        )
        ended_s = self._now_s()
        self._note_run(run, ended_s - began_s, drafts)
        if self._recorder:
            num_guesses = sum(len(draft.tokens) for draft in drafts)
            self._recorder.drafted(began_s, ended_s, len(run.points), num_guesses)
        return drafts

    def _note_run(self, run: DraftRun, seconds: float, drafts: Sequence[Draft]) -> None:
        """Tell the estimators what a run took.

        One before which the proposer had much to read, such as the prompt, or what was written
        while it rested, says nothing of the next.
        """
        num_read = len(run.text) + len(run.points[0].path)
        if num_read - self._num_read <= MAX_STEADY_TOKENS:
            num_levels = max(draft.depth for draft in drafts)
            self._estimators.drafted(seconds, len(run.points), num_levels)
        self._num_read = num_read

    async def _send(self, stream: SessionLink, session: EdgeSession) -> None:
        """Send nodes as soon as they exist; those that came meanwhile go together."""
        while True:
            await self._drafted.wait()
            self._drafted.clear()
            nodes = session.take_unsent()
            if nodes:
                self._note_sent(nodes, session)
                await stream.extend(nodes)

    def _note_sent(self, nodes: Sequence[DraftNode], session: EdgeSession) -> None:
        self._stats.sent(len(nodes))
        if self._recorder:
            hung = [session.hung(node.node_id) for node in nodes]
            self._recorder.sent(nodes, hung, self._now_s())

    async def _receive(self, stream: SessionLink, session: EdgeSession) -> FinishReason:
        """Take commits until one is the last, or a stop string is found."""
        while True:
            event = await stream.receive()
            match event:
                case Commit():
                    self._take(event, session)
                    self._room.set()
                    if self._answer.is_stopped:
                        await stream.cancel()
                        return FinishReason.STOP
                    if event.finish_reason is not None:
                        return event.finish_reason
                case GoAway():
                    pass  # the stream goes on until the verifier ends it
                case _:
                    raise UnavailableError(
                        "The verifier ended the session in the middle of the answer; try again."
                    )

    def _take(self, commit: Commit, session: EdgeSession) -> None:
        now_s = self._now_s()
        if self._request.num_top_logprobs is not None:
            _require_logprobs(commit)
        self._stats.committed(commit)
        records = session.receive(commit)
        if self._recorder:
            self._recorder.committed(commit, len(records), now_s)
        if session.has_unsent:
            self._drafted.set()
        if self._learner:
            before = session.tree.tokens[commit.start - 1]
            self._learner.learn(before, commit.tokens, commit.runner_ups)
        for i, record in enumerate(records, start=1):
            is_last = commit.finish_reason is not None and i == len(records)
            self._answer.add(record, is_last=is_last)
            self._stats.token(record)
            if self._answer.is_stopped:
                return


def _require_logprobs(commit: Commit) -> None:
    if len(commit.logprobs) != len(commit.tokens):
        raise MismatchError(
            "The verifier sends no log-probabilities; install the same release of outrider on both "
            "sides, or ask without logprobs."
        )


async def _opened(stream: SessionLink, mode: AcceptanceMode) -> Opened:
    event = await stream.receive()
    if not isinstance(event, Opened):
        raise UnavailableError("The verifier ended the session before it was opened; try again.")
    if event.acceptance_mode is not mode:
        raise MismatchError(
            f"The verifier opened the session in the acceptance mode "
            f"'{event.acceptance_mode.value}', but '{mode.value}' was asked for; install the same "
            "release of outrider on both sides."
        )
    return event
