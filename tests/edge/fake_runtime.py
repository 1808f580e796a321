"""A runtime in memory for the HTTP API: a token for each character, and a text learnt by heart."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from fake_link import FakeLink, an_info
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import Commit, FinishReason, ModelInfo
from outrider_common.records import GenerationStats, TokenOrigin, TokenRecord
from outrider_common.tree import AtPosition, DraftNode
from outrider_edge.answer import OnToken
from outrider_edge.calibration import GuessKind
from outrider_edge.chat_template import ChatTemplate
from outrider_edge.estimators import Estimators
from outrider_edge.generation import GenerationRequest, GenerationResult
from outrider_edge.guess_tree import Hung
from outrider_edge.guesses import Guess
from outrider_edge.policies import POLICIES
from outrider_edge.tokenizer import EdgeTokenizer
from outrider_edge.tracing import TraceRecorder

ANSWER = "It rides ahead."
TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


def a_tokenizer() -> EdgeTokenizer:
    tokenizer = Tokenizer(models.WordLevel({chr(i): i for i in range(256)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return EdgeTokenizer(tokenizer, ChatTemplate(TEMPLATE, {}))


@dataclass
class FakeRuntime:
    """Writes `answer` in two commits, however it is asked; every second token was drafted.

    Attributes:
        answer: what it writes.
        pause: it waits for this after the first commit.
        begun: holds an item for each generation that has begun.
        error: it raises this after so many commits as `error_after` says.
    """

    answer: str = ANSWER
    pause: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    error: Exception | None = None
    error_after: int = 0
    tokenizer: EdgeTokenizer = field(default_factory=a_tokenizer)
    info: ModelInfo = field(default_factory=an_info)
    link: FakeLink = field(default_factory=lambda: FakeLink([]))
    estimators: Estimators = field(default_factory=Estimators)
    requests: list[GenerationRequest] = field(default_factory=list)
    policies: Collection[str] = tuple(POLICIES)
    asked_policies: list[str | None] = field(default_factory=list)
    num_running: int = 0

    def __post_init__(self) -> None:
        self.pause.set()

    @property
    def infos(self) -> dict[str, ModelInfo]:
        return {self.info.model: self.info}

    def at(self, model: str) -> "FakeRuntime":
        assert model == self.info.model
        return self

    def hasty(self, num_breaks: int) -> "FakeRuntime":
        return self

    def lone_drafter(self, request: GenerationRequest, policy: str | None) -> None:
        return None

    def verifiers(self) -> list[dict[str, Any]]:
        return []

    async def generate(
        self,
        request: GenerationRequest,
        on_token: OnToken,
        recorder: TraceRecorder | None = None,
        policy: str | None = None,
    ) -> GenerationResult:
        self.requests.append(request)
        self.asked_policies.append(policy)
        self.num_running += 1
        self.begun.put_nowait(None)
        try:
            return await self._generate(request, on_token, recorder or TraceRecorder())
        finally:
            self.num_running -= 1

    async def _generate(
        self, request: GenerationRequest, on_token: OnToken, recorder: TraceRecorder
    ) -> GenerationResult:
        recorder.opened(0.01)
        start = len(request.prompt)
        text = self.answer[: request.max_tokens]
        records = [a_record(start + i, character) for i, character in enumerate(text)]
        if request.num_top_logprobs is not None:
            records = [
                replace(one, logprobs=TokenLogprobs(-one.position, ((35, -1.0),)))
                for one in records
            ]
        half = (len(records) + 1) // 2
        told = len(request.written)
        assert request.written == tuple(records[:told])
        for number, commit in enumerate((records[told:half], records[max(told, half) :])):
            if self.error is not None and number == self.error_after:
                raise self.error
            if number == 1:
                await self.pause.wait()
            tell_of_a_pass(recorder, commit)
            for record in commit:
                on_token(record)
            await asyncio.sleep(0)
        is_cut = len(text) < len(self.answer)
        reason = FinishReason.LENGTH if is_cut else FinishReason.STOP
        return GenerationResult(text, reason, tuple(records), a_result_stats(records))


def tell_of_a_pass(recorder: TraceRecorder, records: list[TokenRecord]) -> None:
    """A pass that checked a wrong draft, `#`, for its last token."""
    if not records:
        return
    guess = Guess(ord("#"), GuessKind("fake", 0, 1, "greedy"), own_probability=0.5, chance=0.25)
    last = records[-1].position
    recorder.drafted(0.01, 0.02, num_leaves=1, num_guesses=1)
    node = DraftNode(last, guess.token, AtPosition(last - 1))
    recorder.sent([node], [Hung(guess, from_root=0.25, drafted_at_s=0.02)], 0.03)
    commit = Commit(
        start=records[0].position,
        tokens=tuple(record.token for record in records),
        num_accepted=0,
        is_correction=True,
        pass_us=4000,
        queue_us=1000,
        num_rows=2,
    )
    recorder.committed(commit, len(records), records[-1].committed_at_s)


def a_record(position: int, character: str, text: str = "") -> TokenRecord:
    origin = TokenOrigin.DRAFTED if position % 2 else TokenOrigin.HEDGED
    return TokenRecord(position, ord(character), text or character, origin, position / 100)


def a_result_stats(records: list[TokenRecord]) -> GenerationStats:
    """Two passes with drafts: the first accepted one of them, the second none."""
    num_drafted = sum(record.origin is TokenOrigin.DRAFTED for record in records)
    return GenerationStats(
        num_accepted_tokens=num_drafted,
        num_hedged=len(records) - num_drafted,
        num_drafts=2,
        num_draft_tokens=num_drafted + 3,
        num_accepted_tokens_per_pos=(1,),
        num_passes=2,
        bytes_up=100,
        bytes_down=50,
        time_to_first_token_s=0.25,
        duration_s=1.25,
    )
