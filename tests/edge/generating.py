"""A generation over a verifier in memory, with proposers that know what it will write."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fake_link import FakeLink, an_info
from tokenizers import Tokenizer, decoders, models

from outrider_common.sampling import SamplingParams
from outrider_edge.calibration import Calibration
from outrider_edge.estimators import Estimators
from outrider_edge.generation import Generation, GenerationRequest, GenerationResult
from outrider_edge.policies import AUTO, DraftingPolicy
from outrider_edge.proposer import Draft
from outrider_edge.resuming import Patience
from outrider_edge.streaming_text import IncrementalDetokenizer
from outrider_edge.tracing import TraceRecorder

PROMPT = (ord("?"),)
ANSWER = [ord(c) for c in "It rides ahead of the convoy and signals back."]


def a_tokenizer() -> Tokenizer:
    """One token for each byte."""
    vocabulary = {chr(i): i for i in range(256)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


class Oracle:
    """A proposer that knows the answer, or a fixed other one."""

    def __init__(self, answer: Sequence[int] = ANSWER, at_a_time: int = 3) -> None:
        self.text = [*PROMPT, *answer]
        self.at_a_time = at_a_time

    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        return [self.draft(len(text) + len(path), max_depth) for path in paths]

    def draft(self, start: int, max_depth: int) -> Draft:
        tokens = self.text[start : start + min(self.at_a_time, max_depth)]
        return Draft.chain(tokens, [0.9] * len(tokens))


class Silent:
    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        return [Draft() for _ in paths]


class Broken:
    def expand(
        self, text: Sequence[int], paths: Sequence[Sequence[int]], max_depth: int
    ) -> list[Draft]:
        raise RuntimeError("the model runtime fell over")


async def generate(
    executor: ThreadPoolExecutor,
    link: FakeLink,
    proposer: Any,
    on_token: Any = lambda _record: None,
    calibration: Calibration | None = None,
    estimators: Estimators | None = None,
    recorder: TraceRecorder | None = None,
    policy: DraftingPolicy = AUTO,
    patience: Patience | None = None,
    **changes: Any,
) -> GenerationResult:
    request: dict[str, Any] = {
        "prompt": PROMPT,
        "max_tokens": len(ANSWER),
        "sampling": SamplingParams(),
    }
    generation = Generation(
        GenerationRequest(**(request | changes)),
        link=link,
        info=an_info(),
        tokenizer_fingerprint="v1:fake",
        proposer=proposer,
        proposer_name="oracle",
        detokenizer=IncrementalDetokenizer(a_tokenizer()),
        executor=executor,
        max_depth=8,
        on_token=on_token,
        calibration=calibration,
        estimators=estimators,
        recorder=recorder,
        policy=policy,
        patience=patience,
    )
    return await generation.run()
