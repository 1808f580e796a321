"""Runner-ups of the real target over the real gRPC stack, against Transformers' own logits."""

from pathlib import Path

import pytest
import torch
from prompts import one_of_each_task
from transformers import PreTrainedModel

from outrider_cloud.loading import load_causal_lm
from outrider_common.messages import MAX_RUNNER_UPS, Commit, Opened, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.proposer import DraftingTask
from outrider_edge.recycling import RecyclingFactory
from outrider_edge.tokenizer import EdgeTokenizer

NUM_TOKENS = 24
ROUNDING = 1e-3
"""By how much two ways of computing a logit may differ."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(smollm2_dir: Path) -> PreTrainedModel:
    """The target as Transformers runs it."""
    return load_causal_lm(smollm2_dir, lambda _config: None)


@pytest.fixture(scope="module")
def prompt(smollm2_dir: Path) -> tuple[int, ...]:
    question = one_of_each_task()["summarization"]
    tokenizer = EdgeTokenizer.load(smollm2_dir)
    return tuple(tokenizer.encode_chat([{"role": "user", "content": question}]))


def greedy_text(model: PreTrainedModel, prompt: tuple[int, ...]) -> list[int]:
    output = model.generate(torch.tensor([prompt]), max_new_tokens=NUM_TOKENS, do_sample=False)
    text: list[int] = output[0].tolist()
    return text


async def commits_of(
    link: GrpcLink, prompt: tuple[int, ...], drafts: list[int], num_runner_ups: int
) -> list[Commit]:
    """All commits of a greedy answer for which a chain was drafted at once."""
    info = await link.model_info()
    message = OpenSession(
        prefix=prompt,
        num_prompt_tokens=len(prompt),
        max_tokens=NUM_TOKENS,
        sampling=SamplingParams(),
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        num_runner_ups=num_runner_ups,
    )
    stream = await link.open(message, info.limits.max_message_bytes)
    assert isinstance(await stream.receive(), Opened)
    parents = [AtPosition(len(prompt) - 1), *(AtNode(i) for i in range(1, len(drafts)))]
    nodes = zip(drafts, parents, strict=False)
    await stream.extend([DraftNode(i, *node) for i, node in enumerate(nodes, start=1)])
    commits: list[Commit] = []
    while not commits or commits[-1].finish_reason is None:
        event = await stream.receive()
        assert isinstance(event, Commit)
        commits.append(event)
    stream.close()
    return commits


async def test_runner_ups_are_the_next_best_tokens_of_the_target(
    verifier_address: str, model: PreTrainedModel, prompt: tuple[int, ...]
) -> None:
    text = greedy_text(model, prompt)
    async with GrpcLink(verifier_address, connect_timeout_s=30) as link:
        commits = await commits_of(link, prompt, text[len(prompt) :][:10], MAX_RUNNER_UPS)
    with torch.inference_mode():
        logits = model(torch.tensor([text])).logits[0]
    assert any(commit.num_accepted > 1 for commit in commits)
    for commit in commits:
        for i, runner_ups in enumerate(commit.runner_ups, start=commit.start):
            row = logits[i - 1].clone()
            row[text[i]] = -torch.inf
            best = row.topk(MAX_RUNNER_UPS).values
            assert len(set(runner_ups)) == MAX_RUNNER_UPS
            assert torch.allclose(row[list(runner_ups)], best, rtol=0, atol=ROUNDING)
        assert len(commit.runner_ups) == len(commit.tokens)


async def test_an_edge_that_asks_for_none_gets_none(
    verifier_address: str, prompt: tuple[int, ...]
) -> None:
    async with GrpcLink(verifier_address, connect_timeout_s=30) as link:
        commits = await commits_of(link, prompt, [], 0)
    assert not any(commit.runner_ups for commit in commits)


async def test_recycling_guesses_tokens_of_a_real_answer(
    verifier_address: str, prompt: tuple[int, ...]
) -> None:
    proposer = RecyclingFactory().start(DraftingTask(SamplingParams(), len(prompt), 49152))
    async with GrpcLink(verifier_address, connect_timeout_s=30) as link:
        commits = await commits_of(link, prompt, [], proposer.num_runner_ups)
    text = list(prompt)
    num_right = 0
    for commit in commits:
        (draft,) = proposer.expand(text, [()], 1)
        num_right += bool(commit.tokens) and commit.tokens[0] in draft.tokens
        proposer.learn(text[-1], commit.tokens, commit.runner_ups)
        text += commit.tokens
    assert num_right > 0
