"""What all requests to a daemon share: the runtime if there is one, room, figures, and the end.

Knows nothing of HTTP.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from outrider_common.errors import UnavailableError
from outrider_common.settings.daemon import DaemonSettings
from outrider_common.settings.edge import EdgeSettings
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.answer_sums import AnswerSums
from outrider_edge.choice_stream import ChoiceStream, ServingRuntime, Slots
from outrider_edge.daemon_metrics import DaemonMetrics
from outrider_edge.enduring_runtime import is_reachable
from outrider_edge.estimators import Estimates
from outrider_edge.holds import Holds
from outrider_edge.journal.desk import AnswerDesk, answers_in_memory
from outrider_edge.offline import OfflineQueue


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a daemon lives.

    Attributes:
        settings: of the edge.
        bundle: the name of its drafter.
        up_since: when it began, in seconds since 1970.
    """

    settings: EdgeSettings = field(default_factory=EdgeSettings)
    bundle: str = ""
    up_since: float = field(default_factory=time.time)


@dataclass(slots=True)
class Serving:
    """The state of one daemon.

    Attributes:
        settings: of the daemon.
        sampling: what holds where a request does not say.
        identity: who it is.
        runtime: generates; None until the verifier has been reached.
        waiting_for: why there is no runtime, in a sentence.
        is_stopping: no further requests are taken.
        is_drained: likewise, until somebody says otherwise.
        answers: finds those to requests that come again.
        holds: which runtimes are in use.
        offline: where requests wait for a verifier; None: they fail.
    """

    settings: DaemonSettings
    sampling: SamplingSettings
    identity: Identity = field(default_factory=Identity)
    runtime: ServingRuntime | None = None
    waiting_for: str = "The daemon is starting; try again."
    is_stopping: bool = False
    is_drained: bool = False
    answers: AnswerDesk = field(default_factory=answers_in_memory)
    holds: Holds = field(init=False, default_factory=Holds)
    slots: Slots = field(init=False)
    offline: OfflineQueue | None = field(init=False)
    metrics: DaemonMetrics = field(init=False)
    sums: AnswerSums = field(init=False, default_factory=AnswerSums)
    _streams: set[ChoiceStream] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.slots = Slots(self.settings.max_concurrent_requests)
        waits = self.settings.offline != "fail"
        self.offline = (
            OfflineQueue(self.settings.offline_max_waiting, self.settings.offline_timeout_s)
            if waits
            else None
        )
        self.metrics = DaemonMetrics(self._estimates)
        self.metrics.running.set_function(lambda: self.slots.num_taken)
        self.metrics.waiting.set_function(lambda: self.offline.num_waiting if self.offline else 0)

    def adapt(self, settings: DaemonSettings) -> None:
        """Put other settings in force, as far as they are not those of the sockets."""
        self.settings = settings
        self.slots.resize(settings.max_concurrent_requests)

    @property
    def drafts_alone(self) -> bool:
        """Whether answers go on without a verifier."""
        return self.settings.offline == "draft-only"

    def require_runtime(self) -> ServingRuntime:
        """What generates.

        Raises:
            UnavailableError: there is no verifier yet, or the daemon is about to end.
        """
        self._require_willing()
        if self.runtime is None:
            raise UnavailableError(self.waiting_for)
        return self.runtime

    def _require_willing(self) -> None:
        if self.is_stopping:
            raise UnavailableError("The daemon is stopping; ask it again when it is back.")
        if self.is_drained:
            raise UnavailableError(
                "This device was drained by its operator; ask another one, or ask again later."
            )

    async def runtime_for(self, num_answers: int) -> ServingRuntime:
        """What generates; waits for it, and for room, where the settings say so.

        Raises:
            UnavailableError: as `require_runtime`, or it has waited for too long.
            CapacityError: too many wait.
        """
        if self.offline is None or (self.runtime and self._begins_at_once(self.offline)):
            return self.require_runtime()

        async def attempt() -> ServingRuntime | None:
            self._require_willing()
            runtime = self.runtime
            is_there = runtime is not None and await is_reachable(runtime)
            return runtime if is_there and self.slots.may_take(num_answers) else None

        return await self.offline.to_begin(attempt)

    def _begins_at_once(self, queue: OfflineQueue) -> bool:
        """Whether nobody is overtaken by that."""
        return self.drafts_alone or not queue.num_waiting

    @contextlib.contextmanager
    def room(self, num_answers: int) -> Iterator[None]:
        """Room for some answers of the present runtime; see `Slots.take`."""
        self.slots.take(num_answers)
        try:
            with self.holds.held(self.runtime):
                yield
        finally:
            self.slots.give_back(num_answers)

    @contextlib.contextmanager
    def tracked(self, stream: ChoiceStream) -> Iterator[None]:
        """`abort_all` ends the stream."""
        self._streams.add(stream)
        try:
            yield
        finally:
            self._streams.discard(stream)

    def abort_all(self) -> None:
        """End every answer that is not complete; its client is told."""
        for stream in self._streams:
            stream.abort(
                UnavailableError("The daemon stopped in the middle of the answer; ask again.")
            )

    def _estimates(self) -> Estimates | None:
        return self.runtime.estimators.estimates() if self.runtime else None
