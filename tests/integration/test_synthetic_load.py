"""Hundreds of sessions over the real gRPC stack, against a verifier with a synthetic target."""

import asyncio
import subprocess
import sys

from processes import running_verifier

from outrider_common.messages import Commit, OpenSession
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, guess, next_token
from outrider_common.tree import AtNode, AtPosition, DraftNode
from outrider_edge.grpc_link import GrpcLink

SPEC = SyntheticSpec(vocab=200, acceptance=0.8, c0_s=0.002, c1_s=0, positions=512)
OUTRIDER = [sys.executable, "-m", "outrider"]
NUM_SESSIONS = 200
NUM_TOKENS = 30
CHAIN = 4


async def generate(link: GrpcLink, number: int) -> tuple[list[int], list[int]]:
    """One session, drafted; its prompt and what was committed."""
    prompt = [1 + (number * 7 + i) % 150 for i in range(20 + number % 30)]
    text = list(prompt)
    message = OpenSession(
        prefix=tuple(prompt),
        num_prompt_tokens=len(prompt),
        max_tokens=NUM_TOKENS,
        sampling=SamplingParams(),
        tokenizer_fingerprint=SPEC.tokenizer_fingerprint,
    )
    session = await link.open(message, 65536)
    next_id = 1
    while True:
        event = await session.receive()
        assert event is not None
        if isinstance(event, Commit):
            text += event.tokens
            if event.finish_reason is not None:
                return prompt, text
        nodes = chain(text, next_id, number)
        next_id += len(nodes)
        await session.extend(nodes)


def chain(text: list[int], first_id: int, coin_seed: int) -> list[DraftNode]:
    drafted = list(text)
    nodes = []
    for i in range(CHAIN):
        parent = AtNode(first_id + i - 1) if i else AtPosition(len(text) - 1)
        drafted.append(guess(SPEC, drafted, coin_seed))
        nodes.append(DraftNode(first_id + i, drafted[-1], parent))
    return nodes


async def test_two_hundred_sessions_at_once_get_their_own_texts() -> None:
    with running_verifier(OUTRIDER, str(SPEC), "--max-sessions", "150") as address:
        async with GrpcLink(address) as link:
            info = await link.model_info()
            assert info.max_positions == 512
            tasks = [generate(link, number) for number in range(NUM_SESSIONS)]
            for prompt, text in await asyncio.gather(*tasks):
                expected = list(prompt)
                for _ in range(NUM_TOKENS):
                    expected.append(next_token(SPEC, expected))
                assert text == expected


def test_a_synthetic_target_with_a_bad_value_is_one_clear_sentence() -> None:
    command = [*OUTRIDER, "verifier", "serve", "--model", "synthetic:c0=fast"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "c0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_synthetic_verifier_starts_without_torch() -> None:
    """Which takes seconds to import, and 370 MiB."""
    code = "import sys, outrider_cloud.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
