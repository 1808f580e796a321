"""Log-probabilities of the real target: against a full forward, and read by the official client."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from daemons import RunningDaemon, running_daemon
from edges import OpenEdge
from openai import OpenAI
from prompts import one_of_each_task
from transformers import PreTrainedModel

from outrider_cloud.loading import load_causal_lm
from outrider_common.records import TokenOrigin
from outrider_common.sampling import SamplingParams
from outrider_edge.generation import GenerationRequest, GenerationResult

pytestmark = pytest.mark.slow

ROUNDING = 2e-3
"""By how much two ways of computing a log-probability may differ."""

MESSAGES: Any = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def model(smollm2_dir: Path) -> PreTrainedModel:
    """The target as Transformers runs it."""
    return load_causal_lm(smollm2_dir, lambda _config: None)


@pytest.fixture(scope="module")
def daemon(verifier_address: str, int8_bundle_dir: Path) -> Iterator[RunningDaemon]:
    with running_daemon(verifier_address, int8_bundle_dir) as daemon:
        daemon.wait_until_ready()
        yield daemon


@pytest.fixture(scope="module")
def client(daemon: RunningDaemon) -> Iterator[OpenAI]:
    with daemon.client() as client:
        yield client


def assert_own_logprobs(
    model: PreTrainedModel, prompt: tuple[int, ...], result: GenerationResult
) -> None:
    """By a full forward pass over the prompt and the answer."""
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + result.tokens])).logits[0]
    expected = torch.log_softmax(logits.double(), -1)
    for record in result.records:
        row, found = expected[record.position - 1], record.logprobs
        assert found is not None
        assert found.logprob == pytest.approx(row[record.token].item(), abs=ROUNDING)
        best = row.topk(5).values.tolist()
        assert [logprob for _, logprob in found.top] == pytest.approx(best, abs=ROUNDING)
        for token, logprob in found.top:
            assert logprob == pytest.approx(row[token].item(), abs=ROUNDING)


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.9, top_k=50, repetition_penalty=1.2, seed=5),
    ],
)
async def test_every_committed_token_has_the_log_probabilities_of_a_full_forward(
    open_edge: OpenEdge, model: PreTrainedModel, sampling: SamplingParams
) -> None:
    async with open_edge("lm") as edge:
        question = one_of_each_task()["qa"]
        prompt = tuple(edge.tokenizer.encode_chat([{"role": "user", "content": question}]))
        request = GenerationRequest(prompt, 40, sampling, ignore_eos=True, num_top_logprobs=5)
        # Whatever else the machine does, the verifier waits for drafts.
        result = await edge.generate(request, lambda _record: None, policy="stop-and-wait")
    assert_own_logprobs(model, prompt, result)
    origins = {record.origin for record in result.records}
    assert TokenOrigin.DRAFTED in origins
    assert len(origins) > 1


async def test_tokens_that_the_verifier_decoded_or_guessed_itself_have_theirs_too(
    open_edge: OpenEdge, model: PreTrainedModel
) -> None:
    async with open_edge("lm") as edge:
        prompt = tuple(edge.tokenizer.encode("one two three four " * 12))
        request = GenerationRequest(prompt, 24, SamplingParams(), num_top_logprobs=5)
        result = await edge.generate(request, lambda _record: None, policy="cloud-lookup")
    assert_own_logprobs(model, prompt, result)
    assert TokenOrigin.GUESSED in {record.origin for record in result.records}


def test_the_official_client_reads_those_of_a_chat(client: OpenAI) -> None:
    (card,) = client.models.list().data
    answer = client.chat.completions.create(
        model=card.id, messages=MESSAGES, max_tokens=12, logprobs=True, top_logprobs=3
    )
    (choice,) = answer.choices
    assert choice.logprobs is not None
    content = choice.logprobs.content
    assert content is not None
    assert "".join(one.token for one in content) == choice.message.content
    for one in content:
        assert len(one.top_logprobs) == 3
        assert one.token == one.top_logprobs[0].token  # greedy
        assert one.logprob == one.top_logprobs[0].logprob <= 0
        assert sum(math.exp(top.logprob) for top in one.top_logprobs) <= 1 + 1e-5


def test_the_official_client_reads_those_of_a_completion_as_it_streams(client: OpenAI) -> None:
    (card,) = client.models.list().data
    stream = client.completions.create(
        model=card.id, prompt="1, 2, 3, 4,", max_tokens=8, logprobs=2, stream=True
    )
    text, tokens, offsets = "", [], []
    for choice in (choice for piece in stream for choice in piece.choices):
        text += choice.text
        if choice.logprobs:
            tokens += choice.logprobs.tokens or []
            offsets += choice.logprobs.text_offset or []
    assert "".join(tokens) == text
    assert offsets == [len("".join(tokens[:i])) for i in range(len(tokens))]


def test_more_than_there_are_cannot_be_had(client: OpenAI) -> None:
    (card,) = client.models.list().data
    with pytest.raises(openai.BadRequestError, match="top_logprobs is 21"):
        client.chat.completions.create(
            model=card.id, messages=MESSAGES, logprobs=True, top_logprobs=21
        )
