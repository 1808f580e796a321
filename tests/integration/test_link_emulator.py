"""Whole generations over an emulated link, on the real gRPC stack, with a synthetic target."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from processes import running_verifier
from tokenizers import Tokenizer, models

from outrider_bench.faults import Fault, FaultKind
from outrider_bench.link import LinkEmulator
from outrider_bench.profile import PROFILES, Direction, LinkProfile
from outrider_common.errors import BrokenOffError
from outrider_common.sampling import SamplingParams
from outrider_common.synthetic import SyntheticSpec, next_token
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimators
from outrider_edge.generation import Generation, GenerationRequest, GenerationResult
from outrider_edge.grpc_link import GrpcLink
from outrider_edge.proposer import DraftingTask
from outrider_edge.resuming import Patience
from outrider_edge.streaming_text import IncrementalDetokenizer
from outrider_edge.synthetic_proposer import SyntheticFactory

SPEC: Final = SyntheticSpec(vocab=200, acceptance=0.8, c0_s=0.002, c1_s=0)
REQUEST: Final = GenerationRequest((5, 6, 7), 48, SamplingParams(), ignore_eos=True)
NOTHING: Final = LinkProfile()


@pytest.fixture(scope="module")
def verifier() -> Iterator[str]:
    with running_verifier([sys.executable, "-m", "outrider"], str(SPEC)) as address:
        yield address


def expected() -> tuple[int, ...]:
    """What the target alone writes."""
    text = list(REQUEST.prompt)
    for _ in range(REQUEST.max_tokens):
        text.append(next_token(SPEC, text))
    return tuple(text[len(REQUEST.prompt) :])


async def generate(
    address: str, on_token: Any = lambda _record: None, patience: Patience | None = None
) -> GenerationResult:
    """One answer, drafted by the synthetic proposer."""
    words = {f"t{i}": i for i in range(SPEC.vocab)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    task = DraftingTask(REQUEST.sampling, len(REQUEST.prompt), SPEC.vocab)
    async with GrpcLink(address) as link:
        with ThreadPoolExecutor(1) as executor:
            generation = Generation(
                REQUEST,
                link=link,
                info=await link.model_info(),
                tokenizer_fingerprint=SPEC.tokenizer_fingerprint,
                proposer=SyntheticFactory(SPEC).start(task),
                proposer_name="synthetic",
                detokenizer=IncrementalDetokenizer(tokenizer),
                executor=executor,
                max_depth=16,
                on_token=on_token,
                calibration=Calibration(),
                estimators=Estimators(),
                patience=patience,
            )
            return await generation.run()


@pytest.mark.parametrize("name", ["none", "fibre", "wifi-congested", "4g"])
async def test_the_text_over_any_link_is_the_targets_own(verifier: str, name: str) -> None:
    async with LinkEmulator(PROFILES[name], verifier, seed=1) as link:
        result = await generate(link.address)
        assert link.stats.down.num_bytes > result.stats.num_tokens
    assert result.tokens == expected()


async def test_a_freeze_in_the_middle_of_an_answer_changes_no_token(verifier: str) -> None:
    async with LinkEmulator(NOTHING, verifier) as link:
        written = 0

        def freeze_once(_record: Any) -> None:
            nonlocal written
            written += 1
            if written == 10:
                link.freeze(0.3)

        result = await generate(link.address, freeze_once)
    assert result.tokens == expected()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.RESET, way=Direction.DOWN, after_bytes=600),
        Fault(FaultKind.CUT, way=Direction.DOWN, after_bytes=601),  # in the middle of a frame
        Fault(FaultKind.CUT, way=Direction.UP, after_bytes=700),
    ],
    ids=lambda fault: f"{fault.kind.value}-{fault.way.value}",
)
async def test_a_link_that_breaks_in_the_middle_changes_no_token(
    verifier: str, fault: Fault
) -> None:
    async with LinkEmulator(NOTHING, verifier, faults=[fault]) as link:
        result = await generate(link.address)
    assert result.tokens == expected()
    assert result.stats.num_resumes >= 1


async def test_without_resuming_a_break_is_one_sentence_with_the_text_so_far(verifier: str) -> None:
    fault = Fault(FaultKind.RESET, way=Direction.DOWN, after_bytes=600)
    async with LinkEmulator(NOTHING, verifier, faults=[fault]) as link:
        with pytest.raises(BrokenOffError, match=r"broke off after \d+ tokens") as caught:
            await generate(link.address, patience=Patience(resume_s=0))
    assert caught.value.num_tokens > 0
