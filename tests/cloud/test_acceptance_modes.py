"""Every acceptance mode over the real gRPC stack: negotiated, judged by its rule, and marked."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from fake_target import VOCAB_SIZE, FakeTarget, greedy_text, logits_after
from tokenizers import Tokenizer, decoders, models

from outrider_cloud.batching_engine import BatchingEngine
from outrider_cloud.choice import ArrayLogits
from outrider_cloud.scheduler import PackingLimits, PackingScheduler, SchedulingPolicy
from outrider_cloud.server import running_server
from outrider_cloud.target import Segment
from outrider_common.acceptance import (
    Acceptance,
    AcceptanceMode,
    RelaxedMargins,
    TypicalThresholds,
    exact_token,
)
from outrider_common.errors import UnsupportedError
from outrider_common.messages import Limits
from outrider_common.sampling import SamplingParams
from outrider_edge.calibration import Calibration
from outrider_edge.drawn import drawn_draft
from outrider_edge.estimators import Estimators
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.proposer import Draft, DraftingTask
from outrider_edge.runtime import EdgeRuntime
from outrider_edge.tokenizer import EdgeTokenizer

PROMPT = (1, 2, 3)
NUM_TOKENS = 40
OFFERED = (AcceptanceMode.EXACT, AcceptanceMode.REJECTION, AcceptanceMode.TYPICAL)


@dataclass(frozen=True)
class Second:
    """Drafts the target's second best token, or draws where that is of use."""

    task: DraftingTask

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        return [self.draft([*text, *path]) for path in paths]

    def draft(self, context: list[int]) -> Draft:
        logits = logits_after(context)
        if self.task.wants_draws:
            return drawn_draft(logits, self.task.sampling, len(context), (), (), 1)
        return Draft.chain([int(np.argsort(-logits)[1])], [0.9])


class SecondFactory:
    name = "second"

    def start(self, task: DraftingTask) -> Second:
        return Second(task)


class Unhurried(FakeTarget):
    """Takes long enough for a pass that drafting pays."""

    def forward(self, segments: Sequence[Segment]) -> ArrayLogits:
        time.sleep(0.005)
        return super().forward(segments)


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(params=[tuple(AcceptanceMode)])
async def edge(
    request: pytest.FixtureRequest, executor: ThreadPoolExecutor
) -> AsyncIterator[EdgeRuntime]:
    """An edge on a verifier that offers the given modes."""
    engine = BatchingEngine(
        Unhurried(),
        PackingScheduler(PackingLimits(32, 8, 16, 8, 0.1), SchedulingPolicy.THROUGHPUT),
        model="fake",
        tokenizer_fingerprint="v1:fake",
        limits=Limits(4096, 8, 64, 4),
        acceptance_modes=request.param,
    )
    engine.start()
    async with (
        running_server(engine, "127.0.0.1", 0) as port,
        GrpcLink(f"127.0.0.1:{port}") as link,
    ):
        yield EdgeRuntime(
            tokenizer=a_tokenizer(),
            fingerprint="v1:fake",
            factory=SecondFactory(),
            link=link,
            info=await link.model_info(),
            executor=executor,
            max_depth=4,
            calibration=Calibration(),
            estimators=Estimators(),
        )
    engine.stop()


def a_tokenizer() -> EdgeTokenizer:
    tokenizer = Tokenizer(models.WordLevel({str(i): i for i in range(VOCAB_SIZE)}, unk_token="0"))
    tokenizer.decoder = decoders.Fuse()
    return EdgeTokenizer(tokenizer)


async def generate(
    edge: EdgeRuntime, acceptance: Acceptance, sampling: SamplingParams
) -> GenerationResult:
    request = GenerationRequest(
        PROMPT, NUM_TOKENS, sampling, ignore_eos=True, acceptance=acceptance
    )
    return await edge.generate(request, lambda _record: None)


async def test_exact_is_the_targets_own_text(edge: EdgeRuntime) -> None:
    result = await generate(edge, Acceptance(), SamplingParams())
    assert list(result.tokens) == greedy_text(PROMPT, NUM_TOKENS, stop=())
    assert result.acceptance_mode is AcceptanceMode.EXACT


async def test_rejection_without_a_temperature_is_the_targets_own_text(edge: EdgeRuntime) -> None:
    result = await generate(edge, Acceptance(AcceptanceMode.REJECTION), SamplingParams())
    assert list(result.tokens) == greedy_text(PROMPT, NUM_TOKENS, stop=())
    assert result.acceptance_mode is AcceptanceMode.REJECTION


async def test_rejection_accepts_most_of_what_a_drafter_like_the_target_draws(
    edge: EdgeRuntime,
) -> None:
    sampling = SamplingParams(temperature=1.0, seed=3)
    result = await generate(edge, Acceptance(AcceptanceMode.REJECTION), sampling)
    assert result.stats.num_accepted_tokens > 0
    assert result.stats.num_corrections <= 3  # q is p but for rounding: 1 in 255 for each token


@pytest.mark.parametrize(
    "acceptance",
    [
        Acceptance(AcceptanceMode.TYPICAL, typical=TypicalThresholds(1e-6, 1e-6)),
        Acceptance(AcceptanceMode.RELAXED, relaxed=RelaxedMargins(2, 100.0)),
    ],
    ids=lambda acceptance: acceptance.mode.value,
)
async def test_a_lossy_mode_commits_drafts_that_the_target_would_not_have_written(
    edge: EdgeRuntime, acceptance: Acceptance
) -> None:
    result = await generate(edge, acceptance, SamplingParams())
    assert result.acceptance_mode is acceptance.mode
    assert result.stats.num_accepted_tokens > 0
    assert result.stats.num_corrections == 0
    own = [greedy_text([*PROMPT, *result.tokens[:i]], 1)[0] for i in range(NUM_TOKENS)]
    assert list(result.tokens) != own


async def test_a_lossy_mode_whose_thresholds_no_draft_passes_is_exact(edge: EdgeRuntime) -> None:
    acceptance = Acceptance(AcceptanceMode.RELAXED, relaxed=RelaxedMargins(1, 0.0))
    sampling = SamplingParams(temperature=1.0, seed=5)
    result = await generate(edge, acceptance, sampling)
    text = list(PROMPT)
    while len(text) < len(PROMPT) + NUM_TOKENS:
        text.append(exact_token(logits_after(text), sampling, len(text), PROMPT, ()))
    assert list(result.tokens) == text[len(PROMPT) :]


@pytest.mark.parametrize("edge", [OFFERED], indirect=True)
async def test_a_mode_that_is_not_offered_is_refused_before_a_session_is_opened(
    edge: EdgeRuntime,
) -> None:
    assert edge.info.acceptance_modes == OFFERED
    with pytest.raises(UnsupportedError, match=r"'relaxed' .* offers: exact, rejection, typical"):
        await generate(edge, Acceptance(AcceptanceMode.RELAXED), SamplingParams())
