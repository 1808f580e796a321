"""Hears a real target out: what it answers to prompts, and how long its passes take meanwhile.

The edge sleeps: nothing is drafted, so that passes are as long as those of a verifier that has its
machine to itself. Knows nothing of the grid.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, TypeAlias

from outrider_bench.bench_run import BenchProgress
from outrider_bench.machine import choose_cores
from outrider_bench.processes import on_core, running_verifier
from outrider_bench.sources import find_prompts
from outrider_common.errors import UnavailableError
from outrider_common.prompts import Prompt
from outrider_common.recording import RecordedText, Recording
from outrider_common.sampling import SamplingParams
from outrider_models.bundle import Bundle
from outrider_models.store import ModelStore

if TYPE_CHECKING:
    from outrider_edge.runtime import EdgeRuntime

POLICIES: Final = ("cloud", "cloud-lookup")
"""The first shows passes of one row, the second those of more."""

Timed: TypeAlias = tuple[int, float]
"""Rows of a pass, and its seconds."""


@dataclass(frozen=True, slots=True)
class RecordRequest:
    """What is to be recorded.

    Attributes:
        target: the model.
        bundle: any of its drafters: for tokenizer and chat template.
        prompts: the file.
        num_prompts: of it, as a run of the bench takes them.
        tokens: of an answer at most.
    """

    target: str
    bundle: str
    prompts: Path | None
    num_prompts: int
    tokens: int


def record(request: RecordRequest, store: ModelStore, progress: BenchProgress) -> Recording:
    """Start a verifier, ask it everything, and keep what it says.

    Raises:
        OutriderError: the request cannot be met.
    """
    prompts = find_prompts(request.prompts, request.num_prompts)
    bundle = Bundle.load(store.resolve_bundle(request.bundle))
    store.resolve_model(request.target)
    cores = choose_cores()
    progress.begin(len(prompts) * len(POLICIES))
    progress.starting("the verifier")
    with (
        running_verifier(request.target, store.root, cores.verifier) as verifier,
        nullcontext() if cores.edge is None else on_core(cores.edge),
    ):
        return asyncio.run(_heard(request, verifier, bundle, prompts, progress.step))


async def _heard(
    request: RecordRequest,
    verifier: str,
    bundle: Bundle,
    prompts: Sequence[Prompt],
    tick: Callable[[], None],
) -> Recording:
    from outrider_common.settings.edge import EdgeSettings
    from outrider_edge.runtime import edge_runtime
    from outrider_edge.simple_proposers import NoneFactory

    settings = EdgeSettings(verifier=verifier, bundle=str(bundle.path), proposers=("none",))
    texts: list[RecordedText] = []
    timed: list[Timed] = []
    async with edge_runtime(settings, bundle) as runtime:
        quiet = replace(runtime, factory=NoneFactory())
        for prompt in prompts:
            tokens = _encoded(runtime, prompt)
            answers = [
                await _answer(quiet, each, tokens, request.tokens, tick) for each in POLICIES
            ]
            texts.append(RecordedText(tokens, answers[0][0]))
            timed += [each for _, passes in answers for each in passes]
        c0_s, c1_s = pass_model(timed)
        manifest = bundle.manifest
        return Recording(
            model=request.target,
            tokenizer=manifest.tokenizer_fingerprint,
            vocab_size=runtime.info.vocab_size,
            max_positions=runtime.info.max_positions,
            eos_token_ids=manifest.eos_token_ids,
            c0_s=c0_s,
            c1_s=c1_s,
            texts=tuple(texts),
        )


def _encoded(runtime: "EdgeRuntime", prompt: Prompt) -> tuple[int, ...]:
    if prompt.tokens is not None:
        return prompt.tokens
    return tuple(runtime.tokenizer.encode_chat([{"role": "user", "content": prompt.text}]))


async def _answer(
    runtime: "EdgeRuntime",
    policy: str,
    prompt: tuple[int, ...],
    max_tokens: int,
    tick: Callable[[], None],
) -> tuple[tuple[int, ...], list[Timed]]:
    """What the target writes, and its passes after those of the prompt."""
    from outrider_edge.generation import GenerationRequest
    from outrider_edge.policies import POLICIES as OF_THE_EDGE
    from outrider_edge.tracing import TraceRecorder

    recorder = TraceRecorder()
    asking = replace(runtime, policy=OF_THE_EDGE[policy])
    request = GenerationRequest(prompt, max_tokens, SamplingParams())
    result = await asking.generate(request, lambda _record: None, recorder)
    tick()
    passes = asking.trace(recorder, result, drafter="none").passes[1:]
    return tuple(result.tokens), [(each.num_rows, each.pass_s) for each in passes]


def pass_model(timed: Iterable[Timed]) -> tuple[float, float]:
    """c0 and c1 of passes that take c0 + c1 * rows, seconds: medians, so that a hiccup is none.

    Raises:
        UnavailableError: there was no pass of a single row.
    """
    passes = list(timed)
    single = [seconds for rows, seconds in passes if rows == 1]
    if not single:
        raise UnavailableError(
            "No pass of one row was seen: the answers were too short; raise --tokens."
        )
    alone_s = median(single)
    per_row = [(seconds - alone_s) / (rows - 1) for rows, seconds in passes if rows > 1]
    c1_s = max(median(per_row), 0.0) if per_row else 0.0
    return alone_s - c1_s, c1_s
