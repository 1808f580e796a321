"""The ways of generating that are measured: an engine of ours, and Transformers' own.

Each takes the same prompts, runs once, and returns the same kind of record. All are greedy and go
on past end-of-text tokens, so that all have the same work.
"""

import math
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import torch
from bench_runs import Run, TokenEvent
from bench_workload import ScriptedDrafter
from transformers import (
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from outrider_cloud.engine import EngineEvent, EngineSession, Sink
from outrider_cloud.paged_sequence import PagedSequence
from outrider_cloud.pages import PageKeys, PagePool
from outrider_cloud.target import Rows, Segment, Target
from outrider_common.errors import OutriderError
from outrider_common.messages import ModelInfo, OpenSession
from outrider_common.sampling import SamplingParams

Prompt = tuple[int, ...]

TransformersModel = Any
"""A causal language model; that it generates is in a mixin that the types do not show."""

NO_TOKEN: Final = -1
"""As an end-of-text id: no token is one, so that generations go on to their full length."""

PAGE_TOKENS: Final = 256
CHUNK_TOKENS: Final = 256
"""For continuous batching: what a pass computes at most. With 512 or 1,024 it was no faster: its
attention costs as much as if every row saw the whole cache."""


class SteppedEngine(Protocol):
    """An engine that the benchmark drives itself, without a thread."""

    @property
    def info(self) -> ModelInfo:
        """The target and the limits."""
        ...

    def open(self, message: OpenSession, sink: Sink) -> EngineSession:
        """Admit a session; see `Engine.open`."""
        ...

    def step(self) -> bool:
        """Run one pass; False if no session wants one."""
        ...


class BenchClient:
    """One session of an engine, as the benchmark holds it.

    Args:
        index: of the session.
        prompt: its tokens.
        began: the clock's reading when the run began.
        drafter: hangs a chain into the tree whenever it has become empty; None for no drafts.
    """

    def __init__(
        self, index: int, prompt: Prompt, began: float, drafter: ScriptedDrafter | None
    ) -> None:
        self._index = index
        self._num_prompt_tokens = len(prompt)
        self._began = began
        self._drafter = drafter
        self._wants_draft = True
        self.is_finished = False
        self.text: list[int] = []
        self.events: list[TokenEvent] = []

    def take(self, event: EngineEvent) -> None:
        """Note what the engine says.

        Raises:
            OutriderError: the session has failed.
        """
        if isinstance(event, OutriderError):
            raise event
        at_s = time.perf_counter() - self._began
        self.events.append(TokenEvent(at_s, self._index, len(event.tokens)))
        self.text += event.tokens
        self.is_finished = event.finish_reason is not None
        self._wants_draft = not self.is_finished

    def draft(self, session: EngineSession) -> None:
        """Send a chain if something was committed since the last one."""
        if self._drafter is not None and self._wants_draft:
            session.extend(self._drafter.draft(self._num_prompt_tokens + len(self.text)))
            self._wants_draft = False


def run_engine(
    engine: SteppedEngine,
    prompts: Sequence[Prompt],
    num_tokens: int,
    drafters: Sequence[ScriptedDrafter] | None = None,
) -> Run:
    """Open a session for every prompt, then step until all are finished.

    Args:
        engine: without sessions.
        prompts: one per session.
        num_tokens: that each generates.
        drafters: one per session; None for plain decoding.

    Raises:
        OutriderError: a session failed, or the engine ran out of passes before the end.
    """
    began = time.perf_counter()
    each_drafter = drafters or (None,) * len(prompts)
    clients = [
        BenchClient(index, prompt, began, drafter)
        for index, (prompt, drafter) in enumerate(zip(prompts, each_drafter, strict=True))
    ]
    sessions = [
        engine.open(open_message(prompt, num_tokens, engine.info), client.take)
        for prompt, client in zip(prompts, clients, strict=True)
    ]
    while not all(client.is_finished for client in clients):
        for client, session in zip(clients, sessions, strict=True):
            client.draft(session)
        if not engine.step():
            raise OutriderError("The engine has no more passes, but sessions are unfinished.")
    return Run(
        events=tuple(event for client in clients for event in client.events),
        texts=tuple(tuple(client.text) for client in clients),
    )


def open_message(prompt: Prompt, num_tokens: int, info: ModelInfo) -> OpenSession:
    """Open a greedy session that goes on past end-of-text tokens."""
    return OpenSession(
        prefix=prompt,
        num_prompt_tokens=len(prompt),
        max_tokens=num_tokens,
        sampling=SamplingParams(),
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        ignore_eos=True,
    )


class StepTimes(StoppingCriteria):
    """Notes when each step of `generate` ends, and stops nothing."""

    def __init__(self) -> None:
        self.readings: list[float] = []

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **_: Any
    ) -> torch.BoolTensor:
        """Never done; shape [batch]."""
        self.readings.append(time.perf_counter())
        return cast(torch.BoolTensor, torch.zeros(len(input_ids), dtype=torch.bool))


def run_padded_generate(
    model: TransformersModel, prompts: Sequence[Prompt], num_tokens: int
) -> Run:
    """Transformers' `generate` with all prompts as one batch, padded on the left."""
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    input_ids = torch.tensor(
        [(0,) * p + prompt for p, prompt in zip(padding, prompts, strict=True)]
    )
    mask = torch.tensor([[0] * p + [1] * (width - p) for p in padding])
    times = StepTimes()
    began = time.perf_counter()
    output = model.generate(
        input_ids,
        attention_mask=mask,
        generation_config=_greedy(num_tokens),
        stopping_criteria=StoppingCriteriaList([times]),
    )
    events = tuple(
        TokenEvent(reading - began, session, 1)
        for reading in times.readings
        for session in range(len(prompts))
    )
    return Run(events, tuple(map(tuple, output[:, width:].tolist())))


@torch.inference_mode()
def run_continuous_batching(
    model: TransformersModel, prompts: Sequence[Prompt], num_tokens: int
) -> Run:
    """Transformers' continuous batching over a paged cache: what is inside `generate_batch`.

    The clock starts when the paged cache is there and has served a request, as in a server.
    Prefixes are not shared, because the rounds of the benchmark repeat the same prompts.

    Raises:
        OutriderError: it did not generate everything; Transformers' log says why.
    """
    num_pages = sum(math.ceil((len(prompt) + num_tokens) / PAGE_TOKENS) for prompt in prompts)
    config = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=num_pages + len(prompts),
        max_batch_tokens=max(CHUNK_TOKENS, len(prompts)),
        allow_block_sharing=False,
    )
    with model.continuous_batching_context_manager(
        generation_config=_greedy(num_tokens), continuous_batching_config=config, warmup=False
    ) as manager:
        _serve(manager, prompts[:1], 1)
        began = time.perf_counter()
        results = _serve(manager, prompts, num_tokens)
    events = tuple(
        TokenEvent(reading - began, session, 1)
        for session, result in enumerate(results)
        for reading in result.timestamps or ()
    )
    return Run(events, tuple(tuple(result.generated_tokens) for result in results))


def _serve(
    manager: ContinuousBatchingManager, prompts: Sequence[Prompt], num_tokens: int
) -> list[GenerationOutput]:
    """What the manager generates for each prompt, in their order."""
    ids = manager.add_requests(
        list(map(list, prompts)), max_new_tokens=num_tokens, record_timestamps=True
    )
    finished: dict[str, GenerationOutput] = {}
    while len(finished) < len(ids):
        result = manager.get_result(timeout=1)
        if result is None and not manager.is_running():
            raise OutriderError(f"it ended with {len(ids) - len(finished)} requests unfinished")
        if result is not None and result.error is not None:
            raise OutriderError(result.error)
        if result is not None and result.is_finished():
            finished[result.request_id] = result
    return [finished[request_id] for request_id in ids]


def _greedy(num_tokens: int) -> GenerationConfig:
    return GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=num_tokens, do_sample=False, eos_token_id=NO_TOKEN, pad_token_id=0
    )


class TransformersStep:
    """One plain decoding step of a Transformers model, repeated at the same place.

    Args:
        model: the model.
        past: tokens in the KV cache.
    """

    @torch.inference_mode()
    def __init__(self, model: TransformersModel, past: Prompt) -> None:
        self._model = model
        self._cache = DynamicCache()
        model(torch.tensor([past]), past_key_values=self._cache, use_cache=True, logits_to_keep=1)

    @torch.inference_mode()
    def time_ms(self, token: int) -> float:
        """Milliseconds of one step; the cache is cropped back after it."""
        input_ids = torch.tensor([[token]])
        began = time.perf_counter()
        self._model(input_ids, past_key_values=self._cache, use_cache=True)
        elapsed_ms = (time.perf_counter() - began) * 1e3
        self._cache.crop(-1)
        return elapsed_ms


class TargetPass:
    """One pass of a target of ours over one sequence, repeated at the same place.

    Args:
        target: the target.
        past: tokens in the KV cache.
    """

    def __init__(self, target: Target, past: Prompt) -> None:
        self._target = target
        shape = target.cache_shape
        pool = PagePool(shape.num_pages, shape.page_tokens)
        self._sequence = PagedSequence(pool, PageKeys(past, shape.page_tokens))
        target.forward([self._segment(past)])
        self._sequence.keep(range(len(past)))

    def time_ms(self, tokens: Prompt) -> float:
        """Milliseconds of a pass over these tokens as a chain; none of them is kept."""
        segments = [self._segment(tokens)]
        began = time.perf_counter()
        self._target.forward(segments).numpy()
        elapsed_ms = (time.perf_counter() - began) * 1e3
        self._sequence.keep(())
        return elapsed_ms

    def _segment(self, tokens: Prompt) -> Segment:
        self._sequence.reserve(len(tokens))
        return Segment(self._sequence.pages, self._sequence.length, Rows.chain(tokens))
