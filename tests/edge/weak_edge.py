"""An edge in memory whose only verifier goes and comes back, and whose drafter can write alone."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from fake_link import FakeLink, FakeSession, an_info
from fake_runtime import a_tokenizer
from generating import ANSWER, PROMPT, Oracle

from outrider_common.errors import UnavailableError
from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import Commit, ModelInfo, OpenSession, ServerEvent
from outrider_common.sampling import SamplingParams
from outrider_edge.calibration import Calibration
from outrider_edge.draft_only_runtime import DraftOnlyRuntime
from outrider_edge.estimators import Estimators
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.offline import OfflineQueue
from outrider_edge.proposer import DraftingTask
from outrider_edge.resuming import Patience
from outrider_edge.runtime import EdgeRuntime
from outrider_edge.unverified import Token

GONE = UnavailableError("the verifier is gone")
WRONG = ord("#")
TEXT = "".join(map(chr, ANSWER))


@dataclass(frozen=True)
class Absence:
    """The verifier goes after so many events of a session, and is back when asked so often."""

    after: int
    num_asked: int


class WeakLink(FakeLink):
    """Each absence ends a session; nobody can reach the verifier until it is over.

    Args:
        absences: one after the other; 0 events is an absence from the beginning.
    """

    def __init__(self, absences: Sequence[Absence], answer: Sequence[int] = ANSWER) -> None:
        super().__init__(answer, self._session)
        self.left = list(absences)
        self.num_refusals = 0
        if self.left and self.left[0].after == 0:
            self.go()

    @property
    def has_alternative(self) -> bool:  # type: ignore[override]
        return self.num_refusals == 0

    def go(self) -> None:
        self.num_refusals = self.left.pop(0).num_asked

    async def model_info(self, timeout_s: float | None = None) -> ModelInfo:
        self.num_refusals = max(0, self.num_refusals - 1)
        if self.num_refusals:
            raise GONE
        return an_info()

    async def open(self, message: OpenSession, max_message_bytes: int) -> FakeSession:
        if self.num_refusals:
            raise GONE
        return await super().open(message, max_message_bytes)

    def _session(
        self, message: OpenSession, answer: Sequence[int], pause: asyncio.Event
    ) -> FakeSession:
        return _WeakSession(message, answer, pause, self)


class _WeakSession(FakeSession):
    def __init__(
        self, message: OpenSession, answer: Sequence[int], pause: asyncio.Event, link: WeakLink
    ) -> None:
        super().__init__(message, answer, pause)
        self.link = link
        self.num_events = 0

    async def receive(self) -> ServerEvent | None:
        self.num_events += 1
        if self.link.left and self.num_events > self.link.left[0].after:
            self.link.go()
            raise GONE
        event = await super().receive()
        if isinstance(event, Commit) and self.message.num_top_logprobs is not None:
            return replace(event, logprobs=tuple(TokenLogprobs(-1.0) for _ in event.tokens))
        return event


@dataclass
class Writers:
    """Drafters that know a text by heart."""

    text: Sequence[int]
    name: str = "lm"

    def start(self, task: DraftingTask) -> Oracle:
        oracle = Oracle(at_a_time=1)
        oracle.text = [*[0] * task.num_prompt_tokens, *self.text]
        return oracle


def with_errors(wrong: Iterator[int] | Sequence[int]) -> list[int]:
    """The answer with wrong tokens at some places."""
    places = set(wrong)
    return [WRONG if i in places else token for i, token in enumerate(ANSWER)]


def a_weak_edge(
    executor: ThreadPoolExecutor, link: FakeLink, drafted: Sequence[int] | None = ANSWER
) -> EdgeRuntime:
    """An edge whose drafter writes a text; None: it has no draft model."""
    writers = Writers(drafted) if drafted is not None else None
    return EdgeRuntime(
        tokenizer=a_tokenizer(),
        fingerprint="v1:fake",
        factory=writers or Writers([]),
        link=link,
        info=an_info(),
        executor=executor,
        max_depth=8,
        calibration=Calibration(),
        estimators=Estimators(),
        patience=Patience(open_s=1.0, resume_s=1.0),
        lone_factory=writers,
    )


def a_request(**changes: object) -> GenerationRequest:
    said: dict[str, object] = {"max_tokens": len(ANSWER), "sampling": SamplingParams()}
    return GenerationRequest(PROMPT, **(said | changes))  # type: ignore[arg-type]


async def answer(
    runtime: EdgeRuntime,
    tell: Callable[[Token], None] = lambda _token: None,
    *,
    verify_s: float = 30.0,
    timeout_s: float = 30.0,
    **changes: object,
) -> GenerationResult:
    """An answer that goes on without a verifier."""
    queue = OfflineQueue(8, timeout_s, retry_s=0.001)
    return await DraftOnlyRuntime(runtime, queue, verify_s).generate(a_request(**changes), tell)
