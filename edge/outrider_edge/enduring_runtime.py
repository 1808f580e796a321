"""A runtime whose answers outlast days without a verifier: they wait, and go on where they were.

Knows nothing of how an answer is made, and nothing of HTTP.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from outrider_common import log
from outrider_common.errors import BrokenOffError, UnavailableError
from outrider_common.records import TokenRecord
from outrider_edge.answer import OnToken
from outrider_edge.choice_stream import ServingRuntime
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.offline import OfflineQueue
from outrider_edge.tracing import TraceRecorder

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EnduringRuntime:
    """Generates like another runtime, but does not give up.

    Attributes:
        runtime: the other one.
        queue: where answers wait.
    """

    runtime: ServingRuntime
    queue: OfflineQueue

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        """Answer one request; see `EdgeRuntime.generate`.

        Raises:
            UnavailableError: there was no token more for too long.
            OutriderError: the request cannot be served.
        """
        written = list(request.written)
        latest_s = time.monotonic()

        def keep(record: TokenRecord) -> None:
            nonlocal latest_s
            latest_s = time.monotonic()
            written.append(record)
            on_token(record)

        while True:
            rest = replace(request, written=tuple(written))
            try:
                return await self.runtime.generate(rest, keep, recorder, policy)
            except UnavailableError as error:
                if time.monotonic() - latest_s > self.queue.timeout_s:
                    raise
                log.event(_logger, "answer_waits", num_tokens=len(written), reason=str(error))
            await self._until_back(written)

    async def _until_back(self, written: Sequence[TokenRecord]) -> None:
        async def back() -> bool | None:
            return await is_reachable(self.runtime) or None

        try:
            await self.queue.to_go_on(back)
        except UnavailableError as error:
            if not written:
                raise
            text = "".join(record.text for record in written)
            raise BrokenOffError(
                f"The answer broke off after {len(written)} tokens: {error}", text, len(written)
            ) from None


async def is_reachable(runtime: ServingRuntime) -> bool:
    """Whether a verifier, asked just now, answers."""
    try:
        await runtime.link.model_info()
    except UnavailableError:
        return False
    return True
