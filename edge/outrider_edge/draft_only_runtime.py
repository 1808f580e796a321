"""A runtime whose answers go on without a verifier: the drafter writes alone until one is back.

What it writes is told as unverified. A verifier that is there checks it as it checks any drafts, so
what is told as verified is the target's own. Knows nothing of HTTP.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from outrider_common import log
from outrider_common.errors import BrokenOffError, CapacityError, OutriderError, UnavailableError
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats, TokenRecord
from outrider_edge.answer import Ending
from outrider_edge.choice_stream import OnTold, ServingRuntime
from outrider_edge.enduring_runtime import EnduringRuntime, is_reachable
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.growing_text import GrowingText
from outrider_edge.lone_drafter import LoneDrafter
from outrider_edge.offline import OfflineQueue
from outrider_edge.statistics import StatsCollector
from outrider_edge.streaming_text import StopMatcher, TextSoFar
from outrider_edge.tracing import TraceRecorder
from outrider_edge.unverified import Token, UnverifiedTail, UnverifiedToken

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DraftOnlyRuntime:
    """Generates like another runtime; while no verifier is there, the drafter writes.

    A request whose policy does not draft waits for a verifier instead.

    Attributes:
        runtime: the other one.
        queue: where answers wait for a verifier while they are written.
        verify_s: for how long one that is complete, but not verified, waits for that.
    """

    runtime: ServingRuntime
    queue: OfflineQueue
    verify_s: float

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnTold,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        """Answer one request; see `EdgeRuntime.generate`.

        Raises:
            UnavailableError: no verifier came in time, and the drafter could not complete it.
            OutriderError: the request cannot be served.
        """
        drafter = self.runtime.lone_drafter(request, policy)
        if drafter is None:
            waiting = EnduringRuntime(self.runtime, self.queue)
            return await waiting.generate(request, on_token, recorder, policy)
        one = _Answer(self, request, on_token, drafter)
        return await one.run(recorder, policy)


@dataclass(slots=True)
class _Answer:
    """One answer: verified tokens, and perhaps unverified ones behind them."""

    way: DraftOnlyRuntime
    request: GenerationRequest
    tell: OnTold
    drafter: LoneDrafter
    clock: Callable[[], float] = time.monotonic
    _verified: list[TokenRecord] = field(init=False)
    _tail: UnverifiedTail = field(init=False, default_factory=UnverifiedTail)
    _end: FinishReason | None = field(init=False, default=None)  # why nothing follows the tail
    _num_breaks: int = field(init=False, default=0)  # without a verified token in between
    _began_s: float = field(init=False)
    _latest_s: float = field(init=False)  # when something was verified, or the tail complete

    def __post_init__(self) -> None:
        self._verified = list(self.request.written)
        self._latest_s = self.clock()
        before_s = self._verified[-1].committed_at_s if self._verified else 0.0
        self._began_s = self._latest_s - before_s

    async def run(self, recorder: TraceRecorder | None, policy: str | None) -> GenerationResult:
        """Write it, verified as far as there is a verifier."""
        pause_s = 0.0
        is_there = self.way.runtime.link.has_alternative
        while is_there or await self._is_back_while_writing(pause_s):
            is_there = False
            try:
                return await self._write_verified(recorder, policy)
            except (UnavailableError, CapacityError) as error:
                self._require_hope(error)
            pause_s = self.way.queue.retry_s  # one that is reached, but takes nothing
        return self._unverified_result()

    # --- with a verifier ------------------------------------------------------------------------

    async def _write_verified(
        self, recorder: TraceRecorder | None, policy: str | None
    ) -> GenerationResult:
        """What is missing, by a verifier; the tail is what it checks first."""
        foreseen = tuple(token.token for token in self._tail.tokens)
        rest = replace(self.request, written=tuple(self._verified), foreseen=foreseen)
        hasty = self.way.runtime.hasty(self._num_breaks)
        return await hasty.generate(rest, self._keep, recorder, policy)

    def _keep(self, record: TokenRecord) -> None:
        self._latest_s = self.clock()
        self._num_breaks = 0
        self._verified.append(record)
        self._tail.settle(record)
        if not self._tail.tokens:
            self._end = None
        self.tell(record)

    def _require_hope(self, error: OutriderError) -> None:
        """Go on after a break, unless there was nothing verified for too long."""
        if isinstance(error, CapacityError) and not self._verified and not self._tail.tokens:
            raise error  # it has not begun, and there is a verifier
        self._num_breaks += 1
        num_tokens = len(self._verified)
        if self.clock() - self._latest_s > self.way.queue.timeout_s:
            raise error
        log.event(_logger, "answer_goes_on_alone", num_tokens=num_tokens, reason=str(error))

    # --- without one ----------------------------------------------------------------------------

    async def _is_back_while_writing(self, pause_s: float) -> bool:
        """Write unverified until a verifier is back; False: none was in time for a complete text.

        Raises:
            BrokenOffError: none was in time, and the text is not complete.
        """
        back = asyncio.create_task(self._until_back(pause_s), name="verifier-awaited")
        writing = asyncio.create_task(self._write_alone(), name="draft-alone")
        try:
            await asyncio.wait((back, writing), return_when=asyncio.FIRST_COMPLETED)
            if self._end is not None:
                left_s = self._latest_s + self.way.verify_s - self.clock()
                await asyncio.wait((back,), timeout=max(left_s, 0.0))
                if not back.done():
                    return False
            await back
        except UnavailableError as error:
            if self._end is not None:
                return False
            raise self._broken_off(error) from None
        finally:
            for task in (back, writing):
                task.cancel()
            await asyncio.gather(back, writing, return_exceptions=True)
        return True

    async def _until_back(self, pause_s: float) -> None:
        async def back() -> bool | None:
            return await is_reachable(self.way.runtime) or None

        await asyncio.sleep(pause_s)
        await self.way.queue.to_go_on(back)

    async def _write_alone(self) -> None:
        """Write until the end; a drafter that fails leaves the rest to a verifier."""
        try:
            await self._write_tail()
        except Exception as error:  # whatever a model runtime may raise
            log.event(_logger, "drafter_failed", level=logging.ERROR, error=error)

    async def _write_tail(self) -> None:
        behind: tuple[Token, ...] = (*self._verified, *self._tail.tokens)
        known = [one.token for one in behind]
        text, ending = self._text_after(known), self._ending()
        tokens = [*self.request.prompt, *known]
        while self._end is None:
            token = await self.drafter.next_token(GrowingText(tokens))
            if token is None:
                return
            end = ending.reason(token, len(tokens))
            said = text.push(token, is_last=end is not None)
            now_s = self.clock()
            one = UnverifiedToken(len(tokens), token, said, now_s - self._began_s)
            tokens.append(token)
            self._tail.add(one)
            self._end = FinishReason.STOP if text.is_stopped else end
            self._latest_s = now_s if self._end else self._latest_s
            self.tell(one)

    def _text_after(self, tokens: Sequence[int]) -> TextSoFar:
        matcher = StopMatcher(self.request.stop_strings)
        text = TextSoFar(self.way.runtime.tokenizer.detokenizer(), matcher)
        for token in tokens:
            text.push(token)
        return text

    def _ending(self) -> Ending:
        request = self.request
        return Ending.of(
            self.way.runtime.info,
            len(request.prompt),
            request.max_tokens,
            request.stop_token_ids,
            ignore_eos=request.ignore_eos,
        )

    # --- in the end -----------------------------------------------------------------------------

    @property
    def _verified_text(self) -> str:
        return "".join(record.text for record in self._verified)

    def _broken_off(self, error: UnavailableError) -> UnavailableError:
        num_tokens = len(self._verified)
        if not num_tokens:
            return error
        message = f"The answer broke off after {num_tokens} tokens: {error}"
        return BrokenOffError(message, self._verified_text, num_tokens)

    def _unverified_result(self) -> GenerationResult:
        assert self._end is not None  # else it would have broken off
        return GenerationResult(
            text=self._verified_text,
            finish_reason=self._end,
            records=tuple(self._verified),
            stats=self._stats(),
            acceptance_mode=self.request.acceptance.mode,
            unverified=tuple(self._tail.tokens),
        )

    def _stats(self) -> GenerationStats:
        """Of the verified tokens; what was drafted for them is not known here."""
        collector = StatsCollector()
        for record in self._verified:
            collector.token(record)
        if self._verified:
            collector.passed(self._verified[-1].pass_index + 1)
        return collector.result()
