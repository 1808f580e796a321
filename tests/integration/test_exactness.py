"""The promise, on the real model over the real gRPC stack: the text is the target's own.

Greedy answers equal Transformers' `generate`; sampled answers equal plain decoding, one token at a
time, with the same seed; for every proposer, one that drafts garbage and one that drafts nothing
included.
"""

from collections import Counter
from pathlib import Path

import pytest
import torch
from edges import OpenEdge
from prompts import one_of_each_task
from transformers import DynamicCache, PreTrainedModel

from outrider_cloud.loading import load_causal_lm
from outrider_common.acceptance import exact_token
from outrider_common.records import TokenOrigin
from outrider_common.sampling import SamplingParams
from outrider_common.settings.edge import EdgeSettings
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.runtime import EdgeRuntime, edge_runtime
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_models.bundle import Bundle

NUM_TOKENS = 40
PROPOSERS = [("none",), ("garbage",), ("retrieval",), ("lm",), ("retrieval", "recycling", "lm")]
SEEDS = (1, 2**63 + 11)
PROMPTS = one_of_each_task()
SAMPLED_TASKS = ("qa", "math_reasoning")

pytestmark = pytest.mark.slow


def sampled(seed: int) -> SamplingParams:
    return SamplingParams(temperature=0.8, top_p=0.95, seed=seed)


@pytest.fixture(scope="module")
def model(smollm2_dir: Path) -> PreTrainedModel:
    """The target as Transformers runs it."""
    return load_causal_lm(smollm2_dir, lambda _config: None)


@pytest.fixture(scope="module")
def tokenizer(smollm2_dir: Path) -> EdgeTokenizer:
    return EdgeTokenizer.load(smollm2_dir)


@pytest.fixture(scope="module")
def encoded(tokenizer: EdgeTokenizer) -> dict[str, tuple[int, ...]]:
    return {
        task: tuple(tokenizer.encode_chat([{"role": "user", "content": prompt}]))
        for task, prompt in PROMPTS.items()
    }


@pytest.fixture(scope="module")
def greedy_answers(
    model: PreTrainedModel, encoded: dict[str, tuple[int, ...]]
) -> dict[str, list[int]]:
    """What Transformers' own `generate` writes."""
    answers = {}
    for task, prompt in encoded.items():
        output = model.generate(torch.tensor([prompt]), max_new_tokens=NUM_TOKENS, do_sample=False)
        answers[task] = output[0, len(prompt) :].tolist()
    return answers


@pytest.fixture(scope="module")
def sampled_answers(
    model: PreTrainedModel, encoded: dict[str, tuple[int, ...]]
) -> dict[tuple[str, int], list[int]]:
    """What plain decoding writes: one row a pass, the same noise."""
    return {
        (task, seed): decode_plainly(model, encoded[task], sampled(seed))
        for task in SAMPLED_TASKS
        for seed in SEEDS
    }


def decode_plainly(
    model: PreTrainedModel, prompt: tuple[int, ...], sampling: SamplingParams
) -> list[int]:
    cache = DynamicCache(config=model.config)
    fed: tuple[int, ...] = prompt
    answer: list[int] = []
    while len(answer) < NUM_TOKENS:
        with torch.inference_mode():
            output = model(torch.tensor([fed]), past_key_values=cache, logits_to_keep=1)
        logits = output.logits[0, -1].numpy()
        token = exact_token(logits, sampling, len(prompt) + len(answer), prompt, answer)
        answer.append(token)
        fed = (token,)
        if token == model.generation_config.eos_token_id:
            break
    return answer


async def generate(
    edge: EdgeRuntime, prompt: tuple[int, ...], sampling: SamplingParams
) -> GenerationResult:
    request = GenerationRequest(prompt=prompt, max_tokens=NUM_TOKENS, sampling=sampling)
    return await edge.generate(request, lambda _record: None)


@pytest.mark.parametrize("proposers", PROPOSERS, ids="+".join)
async def test_greedy_text_is_what_transformers_generates(
    proposers: tuple[str, ...],
    open_edge: OpenEdge,
    encoded: dict[str, tuple[int, ...]],
    greedy_answers: dict[str, list[int]],
) -> None:
    async with open_edge(*proposers) as edge:
        for task, prompt in encoded.items():
            result = await generate(edge, prompt, SamplingParams())
            assert list(result.tokens) == greedy_answers[task], task


@pytest.mark.parametrize("proposers", PROPOSERS, ids="+".join)
async def test_sampled_text_is_what_plain_decoding_gives_with_the_same_seed(
    proposers: tuple[str, ...],
    open_edge: OpenEdge,
    encoded: dict[str, tuple[int, ...]],
    sampled_answers: dict[tuple[str, int], list[int]],
) -> None:
    async with open_edge(*proposers) as edge:
        for (task, seed), expected in sampled_answers.items():
            result = await generate(edge, encoded[task], sampled(seed))
            assert list(result.tokens) == expected, (task, seed)


def test_the_seeds_give_different_texts(sampled_answers: dict[tuple[str, int], list[int]]) -> None:
    for task in SAMPLED_TASKS:
        assert sampled_answers[task, SEEDS[0]] != sampled_answers[task, SEEDS[1]]


async def test_the_drafter_really_drafts(
    open_edge: OpenEdge, encoded: dict[str, tuple[int, ...]]
) -> None:
    async with open_edge("lm") as edge:
        result = await generate(edge, encoded["math_reasoning"], SamplingParams())
    drafted = [record for record in result.records if record.origin is TokenOrigin.DRAFTED]
    assert drafted  # how many, depends on how busy the machine is
    assert result.stats.num_passes < len(result.records)
    assert all(record.drafted_at_s is not None for record in drafted)


async def test_two_generations_at_once_do_not_disturb_each_other(
    open_edge: OpenEdge,
    encoded: dict[str, tuple[int, ...]],
    greedy_answers: dict[str, list[int]],
) -> None:
    import asyncio

    async with open_edge("lm") as edge:
        tasks = ("qa", "translation", "math_reasoning")
        results = await asyncio.gather(
            *(generate(edge, encoded[task], SamplingParams()) for task in tasks)
        )
    for task, result in zip(tasks, results, strict=True):
        assert list(result.tokens) == greedy_answers[task]


@pytest.mark.parametrize("policy", ["cloud", "cloud-lookup", "stop-and-wait"])
async def test_other_policies_write_the_same_texts(
    policy: str,
    verifier_address: str,
    int8_bundle: Bundle,
    encoded: dict[str, tuple[int, ...]],
    greedy_answers: dict[str, list[int]],
    sampled_answers: dict[tuple[str, int], list[int]],
) -> None:
    settings = EdgeSettings(verifier=verifier_address, policy=policy)
    origins: Counter[TokenOrigin] = Counter()
    async with edge_runtime(settings, int8_bundle) as edge:
        for task, expected in greedy_answers.items():
            result = await generate(edge, encoded[task], SamplingParams())
            assert list(result.tokens) == expected, task
            origins += Counter(record.origin for record in result.records)
        for (task, seed), expected in sampled_answers.items():
            result = await generate(edge, encoded[task], sampled(seed))
            assert list(result.tokens) == expected, (task, seed)
    assert (origins[TokenOrigin.GUESSED] > 0) == (policy == "cloud-lookup")
    assert (origins[TokenOrigin.DRAFTED] > 0) == (policy == "stop-and-wait")
