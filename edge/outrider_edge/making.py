"""From a request that was understood to its generations: model, policy, room, prompts, figures.

What every way to ask has in common. Knows nothing of HTTP, and nothing of how answers are worded.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from outrider_edge.choice_stream import (
    ChoiceStream,
    Event,
    Finished,
    Foreseen,
    Generator,
    ServingRuntime,
    Written,
)
from outrider_edge.draft_only_runtime import DraftOnlyRuntime
from outrider_edge.enduring_runtime import EnduringRuntime
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.openai_requests import ApiRequest
from outrider_edge.serving import Serving
from outrider_edge.unverified import UnverifiedTail


@dataclass(slots=True)
class Making:
    """An answer that can be written now; there is room for it.

    Attributes:
        serving: what all requests share.
        runtime: generates.
        request: what was asked for.
        generations: one for each choice.
        answer_id: the name of the answer.
        began: when the request came, by `time.perf_counter`.
        created: likewise, in seconds since 1970.
    """

    serving: Serving
    runtime: ServingRuntime
    request: ApiRequest
    generations: Sequence[GenerationRequest]
    answer_id: str
    began: float
    created: int = field(default_factory=lambda: int(time.time()))
    _begun: set[int] = field(init=False, default_factory=set)
    _tails: defaultdict[int, UnverifiedTail] = field(
        init=False, default_factory=lambda: defaultdict(UnverifiedTail)
    )

    @property
    def model(self) -> str:
        """The target's name."""
        return self.runtime.info.model

    @property
    def num_prompt_tokens(self) -> int:
        """Of all prompts; each counts once, however often it is answered."""
        firsts = self.generations[:: self.request.num_choices]
        return sum(len(generation.prompt) for generation in firsts)

    @contextlib.asynccontextmanager
    async def stream(
        self, generations: Sequence[GenerationRequest], indices: Sequence[int] | None = None
    ) -> AsyncIterator[ChoiceStream]:
        """Write some choices, all if no indices are given; `Serving.abort_all` ends them."""
        handling, generator = self.request.handling, self._generator
        async with ChoiceStream(generator, generations, handling, indices) as stream:
            with self.serving.tracked(stream):
                yield stream

    @property
    def _generator(self) -> Generator:
        """The runtime, and what is done while it finds no verifier."""
        queue, verify_s = self.serving.offline, self.serving.settings.offline_verify_s
        if queue is None:
            return self.runtime
        if self.serving.drafts_alone and self._may_be_unverified:
            return DraftOnlyRuntime(self.runtime, queue, verify_s)
        return EnduringRuntime(self.runtime, queue)

    @property
    def _may_be_unverified(self) -> bool:
        """Log-probabilities are the target's: they come late, or not without it."""
        wants_logprobs = self.generations[0].num_top_logprobs is not None
        return self.request.handling.takes_corrections or not wants_logprobs

    def spelling(self, token: int) -> str:
        """What a token reads as alone."""
        return self.runtime.tokenizer.decode([token])

    def note(self, events: Sequence[Event]) -> None:
        """Count what has happened."""
        for event in events:
            match event:
                case Written(index, record):
                    self._begin(index)
                    self._tails[index].settle(record)
                case Foreseen(index, token):
                    self._tails[index].add(token)
                case Finished(index, result):
                    self._end(index, result)

    def _begin(self, index: int) -> None:
        if index not in self._begun:
            self._begun.add(index)
            self.serving.metrics.first_token(self.model, self._seconds)

    def _end(self, index: int, result: GenerationResult) -> None:
        self.serving.metrics.written_alone(self.model, self._tails[index])
        if result.is_verified:
            self.serving.metrics.answered(self.model, result, self._seconds)
            self.serving.sums.add(result.stats)

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self.began


@contextlib.asynccontextmanager
async def making(
    serving: Serving, request: ApiRequest, answer_id: str, began: float
) -> AsyncIterator[Making]:
    """Everything that an answer needs, until it is complete.

    Raises:
        UnavailableError: there is no verifier, or the daemon takes no more.
        CapacityError: there is no room.
        OutriderError: the request cannot be answered as it is.
    """
    runtime = await serving.runtime_for(request.num_answers)
    request.check_model(runtime.infos)
    runtime = runtime.at(request.model)
    request.handling.check_policy(runtime.policies)
    with serving.room(request.num_answers):
        # Long texts take their time, and other streams shall not wait for them.
        generations = await asyncio.to_thread(request.generations, runtime.tokenizer, runtime.info)
        serving.require_runtime()  # the daemon may have begun to stop meanwhile
        one = Making(serving, runtime, request, generations, answer_id, began)
        serving.metrics.prompted(one.model, one.num_prompt_tokens)
        yield one
