"""One generation: as many sessions, one after another, as its answer takes.

A session that breaks is followed by another one, here or at another verifier, with what was
committed as part of its prefix. Knows nothing of gRPC, models or terminals: they are passed in.
"""

import asyncio
import logging
import time
import traceback
from concurrent.futures import Executor
from copy import deepcopy
from dataclasses import asdict, dataclass, field

from outrider_common import log
from outrider_common.acceptance import Acceptance, AcceptanceMode
from outrider_common.errors import MismatchError, OutriderError, UnavailableError
from outrider_common.messages import FinishReason, ModelInfo, Opened, OpenSession
from outrider_common.records import GenerationStats, TokenRecord
from outrider_common.sampling import SamplingParams
from outrider_edge.answer import Answer, Ending, OnToken
from outrider_edge.calibration import Calibration
from outrider_edge.conversation import Conversation
from outrider_edge.drafter import Drafter
from outrider_edge.estimators import Estimators
from outrider_edge.heartbeat import Heartbeat, SilenceError
from outrider_edge.link import SessionLink, VerifierLink
from outrider_edge.policies import AUTO, DraftingPolicy
from outrider_edge.proposer import Learner, Proposer
from outrider_edge.resuming import Patience, Progress, Resuming
from outrider_edge.session import EdgeSession
from outrider_edge.streaming_text import IncrementalDetokenizer, StopMatcher
from outrider_edge.tracing import TraceRecorder
from outrider_edge.unverified import UnverifiedToken

_logger = logging.getLogger(__name__)


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
        written: what was written of the answer before, by a process that has ended since; it is not
            told again, and counts as if it were written now.
        foreseen: what probably follows that: it is drafted at no cost.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    sampling: SamplingParams
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    acceptance: Acceptance = field(default_factory=Acceptance)
    num_top_logprobs: int | None = None
    written: tuple[TokenRecord, ...] = ()
    foreseen: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerationResult:
    """An answer.

    Attributes:
        text: without stop strings and special tokens; as far as it is verified.
        finish_reason: why it ended.
        records: one for each token, its text included.
        stats: the sums.
        acceptance_mode: how drafts were judged; the text of a lossy mode is not the target's own.
        unverified: what the drafter wrote behind that, where no verifier came in time.
    """

    text: str
    finish_reason: FinishReason
    records: tuple[TokenRecord, ...]
    stats: GenerationStats
    acceptance_mode: AcceptanceMode = AcceptanceMode.EXACT
    unverified: tuple[UnverifiedToken, ...] = ()

    @property
    def is_verified(self) -> bool:
        """Whether all of it is the target's."""
        return not self.unverified

    @property
    def whole_text(self) -> str:
        """With what is not verified."""
        return self.text + "".join(token.text for token in self.unverified)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The token ids of the answer, a final end-of-text token included."""
        return tuple(record.token for record in self.records)


class _Clock:
    """Seconds since a request began.

    Who needs the time holds the clock, and not the generation: that is free of cycles, so that the
    drafter's memory is there for the next request as soon as nobody refers to it.
    """

    def __init__(self) -> None:
        self._began = 0.0  # by the performance counter

    def begin(self, now_s: float) -> None:
        """It is now so late."""
        self._began = time.perf_counter() - now_s

    def __call__(self) -> float:
        """How late it is."""
        return time.perf_counter() - self._began


class Generation:
    """Runs one request.

    Args:
        request: what to generate.
        link: the way to a verifier, or to several.
        info: what the verifier said of its model.
        tokenizer_fingerprint: of the edge's own tokenizer.
        proposer: drafts for this generation.
        proposer_name: for the records.
        detokenizer: a fresh one.
        executor: where drafting runs, so that it does not hold up the network.
        max_depth: draft nodes ahead of the committed text at most.
        on_token: takes each token as it is committed.
        calibration: what guesses are worth; it learns. Fresh if None.
        estimators: the pace of link, verifier and drafter; they learn. Fresh if None. A link to
            several verifiers has its own.
        policy: how the session may draft.
        recorder: told of everything that happens and when; None: nobody is.
        patience: for how long it tries to go on after a break.
        keeps_pace: what is learnt of the pace is kept for other generations.
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
        patience: Patience | None = None,
        keeps_pace: bool = True,
    ) -> None:
        self._request = request
        self._link = link
        self._info = info
        self._fingerprint = tokenizer_fingerprint
        self._learner = proposer if isinstance(proposer, Learner) else None
        self._drafter = Drafter(proposer, proposer_name, executor)
        self._max_depth = max_depth
        self._calibration = calibration
        self._estimators = estimators or Estimators()
        self._policy = policy
        self._patience = patience or Patience()
        self._keeps_pace = keeps_pace
        self._resuming = Resuming(self._patience)
        self._clock = _Clock()
        self._ending = Ending.of(
            info,
            len(request.prompt),
            request.max_tokens,
            request.stop_token_ids,
            ignore_eos=request.ignore_eos,
        )
        self._answer = Answer(
            request.prompt,
            ending=self._ending,
            detokenizer=detokenizer,
            stop_matcher=StopMatcher(request.stop_strings),
            on_token=on_token,
            learner=self._learner,
            recorder=recorder,
            clock=self._clock,
            wants_logprobs=request.num_top_logprobs is not None,
        )

    async def run(self) -> GenerationResult:
        """Generate the answer.

        Raises:
            BrokenOffError: it broke off in the middle, and no verifier went on with it in time.
            OutriderError: a verifier refused the request, or none was there.
        """
        written = self._request.written
        self._clock.begin(written[-1].committed_at_s if written else 0.0)
        finish_reason = self._answer.take_up(written)
        while finish_reason is None:
            try:
                finish_reason = await self._session()
            except OutriderError as error:
                await self._pause_after(error)
            except BaseException as error:
                # Before Python 3.13 a task group that is cancelled is a cycle through its frames,
                # which would hold the drafter's memory until the collector comes.
                traceback.clear_frames(error.__traceback__)
                raise
        estimates = asdict(self._estimators.estimates())
        log.event(_logger, "generation_paced", level=logging.DEBUG, **estimates)
        return GenerationResult(
            text=self._answer.text,
            finish_reason=finish_reason,
            records=self._answer.records,
            stats=self._answer.stats,
            acceptance_mode=self._request.acceptance.mode,
        )

    def _now_s(self) -> float:
        """Seconds since the request began."""
        return self._clock()

    async def _pause_after(self, error: OutriderError) -> None:
        """Wait until another session may be opened after one that broke.

        Raises:
            OutriderError: that is of no use, or has taken too long.
        """
        answer = self._answer
        progress = Progress(len(answer.records), answer.num_sessions > 0)
        try:
            pause_s = self._resuming.pause_s(
                error, progress, self._now_s(), has_alternative=self._link.has_alternative
            )
        except OutriderError as final:
            raise self._resuming.given_up(final, answer.text, progress.num_tokens) from error
        log.event(
            _logger,
            "session_broke",
            level=logging.WARNING,
            why=str(error),
            num_tokens=progress.num_tokens,
            pause_s=round(pause_s, 3),
        )
        await asyncio.sleep(pause_s)

    async def _session(self) -> FinishReason | None:
        """One session, until the answer is complete, or until it is to go on elsewhere: None."""
        began_s = self._now_s()
        stream = await self._link.open(self._open_message(), self._info.limits.max_message_bytes)
        session = None
        try:
            opened = await self._opened(stream)
            opening_s = self._now_s() - began_s
            estimators = stream.estimators or self._estimators
            if not self._keeps_pace:
                estimators = deepcopy(estimators)
            estimators.opened(opening_s)
            self._answer.opened()
            session = self._make_session(opened, estimators)
            conversation = Conversation(
                stream,
                session,
                answer=self._answer,
                drafter=self._drafter,
                estimators=estimators,
                may_move=lambda: self._link.has_alternative,
                heartbeat=self._heartbeat(opened, opening_s),
                clock=self._clock,
            )
            return await conversation.run()
        except SilenceError:
            stream.give_up()
            raise
        finally:
            stream.close()
            self._answer.left(stream, session)

    def _open_message(self) -> OpenSession:
        request = self._request
        return OpenSession(
            prefix=self._answer.prefix,
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

    async def _opened(self, stream: SessionLink) -> Opened:
        """The verifier's answer to `open`."""
        patience_s = self._resuming.opening_s
        try:
            async with asyncio.timeout(patience_s):
                event = await stream.receive()
        except TimeoutError:
            raise SilenceError(
                f"The verifier has not opened the session within {patience_s:g} s "
                "(edge.heartbeat_s, edge.connect_timeout_s); try again."
            ) from None
        if not isinstance(event, Opened):
            raise UnavailableError(
                "The verifier ended the session before it was opened; try again."
            )
        if event.acceptance_mode is not self._request.acceptance.mode:
            raise MismatchError(
                f"The verifier opened the session in the acceptance mode "
                f"'{event.acceptance_mode.value}', but '{self._request.acceptance.mode.value}' was "
                "asked for; install the same release of outrider on both sides."
            )
        return event

    def _heartbeat(self, opened: Opened, opening_s: float) -> Heartbeat | None:
        silence_s = self._patience.heartbeat_s
        return Heartbeat(silence_s, opening_s) if silence_s and opened.answers_pings else None

    def _make_session(self, opened: Opened, estimators: Estimators) -> EdgeSession:
        return EdgeSession(
            self._answer.prefix,
            max_outstanding_nodes=opened.limits.max_outstanding_nodes,
            max_depth=self._max_depth,
            max_length=self._ending.max_length,
            calibration=self._calibration,
            regime=self._regime(),
            policy=self._policy,
            estimators=estimators,
            clock=self._clock,
            num_passes=self._answer.num_passes,
        )

    def _regime(self) -> str:
        """The name under which guesses are calibrated beside those of the same regime."""
        choice = "greedy" if self._request.sampling.is_greedy else "sampled"
        return f"{choice} {self._request.acceptance.mode.value}"
