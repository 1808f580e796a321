"""Where the answers of a chat come from: a running daemon, or a runtime in this process.

Knows nothing of terminals.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Protocol

from outrider_common.acceptance import AcceptanceMode
from outrider_common.errors import MismatchError, OutriderError
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_common.settings.sampling import SamplingSettings
from outrider_edge.chat.commands import SETTABLE
from outrider_edge.chat.figures import AnswerFigures
from outrider_edge.daemon_client import DaemonClient, Json
from outrider_edge.estimators import Estimates
from outrider_edge.generation_requests import generation_request
from outrider_edge.openai_responses import UNVERIFIED
from outrider_edge.runtime import EdgeRuntime

CHAT_ROUTE: Final = "/v1/chat/completions"

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Unverified:
    """More of an answer, but no verifier has seen it, and it may be corrected."""

    text: str


@dataclass(frozen=True, slots=True)
class Correction:
    """What stands after so many characters was wrong; this stands there instead."""

    since: int
    text: str


Piece = str | Unverified | Correction
OnText = Callable[[Piece], None]
"""Takes each piece of an answer as it comes; must return at once."""


class AnswerSource(Protocol):
    """Answers chats, one at a time. Cancelling `answer` stops the answer, on the verifier, too."""

    @property
    def title(self) -> str:
        """Which model answers, and by which way, in a few words."""
        ...

    async def answer(
        self, messages: Messages, sampling: SamplingSettings, on_text: OnText
    ) -> AnswerFigures:
        """The next message of a chat.

        Raises:
            InvalidPromptError: the chat is too long.
            OutriderError: there is no answer, or no more of it.
        """
        ...


@dataclass(frozen=True, slots=True)
class RuntimeSource:
    """Answers by an edge in this process.

    Attributes:
        runtime: the edge.
        title: see `AnswerSource`.
    """

    runtime: EdgeRuntime
    title: str

    async def answer(
        self, messages: Messages, sampling: SamplingSettings, on_text: OnText
    ) -> AnswerFigures:
        """See `AnswerSource.answer`."""
        prompt = self.runtime.tokenizer.encode_chat(messages)
        result = await self.runtime.generate(
            generation_request(prompt, sampling), lambda record: on_text(record.text)
        )
        return AnswerFigures(
            result.finish_reason,
            result.acceptance_mode,
            result.stats,
            self.runtime.estimators.estimates(),
        )


@dataclass(frozen=True, slots=True)
class DaemonSource:
    """Answers by a running daemon.

    Attributes:
        client: the way to it.
        model: the name of its target.
    """

    client: DaemonClient
    model: str

    @property
    def title(self) -> str:
        """See `AnswerSource.title`."""
        return f"{self.model}, by the daemon at {self.client.address}"

    async def answer(
        self, messages: Messages, sampling: SamplingSettings, on_text: OnText
    ) -> AnswerFigures:
        """See `AnswerSource.answer`."""
        request = {
            "model": self.model,
            "messages": messages,
            "stream": True,
            "outrider": {"corrections": True},
            **{name: getattr(sampling, name) for name in SETTABLE},
        }
        answer = _StreamedAnswer(on_text)
        async with contextlib.aclosing(self.client.stream(CHAT_ROUTE, request)) as events:
            async for event in events:
                answer.take(event)
        return answer.figures(await self._estimates())

    async def _estimates(self) -> Estimates | None:
        """The daemon's; without them the answer is as good."""
        with contextlib.suppress(OutriderError, TypeError):
            status = await self.client.get("/status")
            return Estimates(**status["estimates"])
        return None


@dataclass(slots=True)
class _StreamedAnswer:
    """What a stream of OpenAI's chunks says."""

    on_text: OnText
    _finish_reason: str = ""
    _ours: Json = field(default_factory=dict)

    def take(self, chunk: Json) -> None:
        self._ours = ours = chunk.get("outrider", {})
        for choice in chunk.get("choices", ()):
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if text := choice.get("delta", {}).get("content"):
                self.on_text(Unverified(text) if "unverified" in ours else text)
        if said := ours.get("correction"):
            self.on_text(Correction(int(said["from_character"]), str(said["text"])))

    def figures(self, estimates: Estimates | None) -> AnswerFigures:
        try:
            is_verified = self._finish_reason != UNVERIFIED
            return AnswerFigures(
                FinishReason(self._finish_reason) if is_verified else None,
                AcceptanceMode(self._ours["acceptance_mode"]),
                _stats(self._ours["choices"][0]),
                estimates,
            )
        except (LookupError, TypeError, ValueError) as error:
            raise MismatchError(
                f"The daemon's answer lacks what this release expects ({error}); restart the "
                "daemon with this release."
            ) from error


def _stats(document: Json) -> GenerationStats:
    values: dict[str, Any] = {one.name: document[one.name] for one in fields(GenerationStats)}
    values["num_accepted_tokens_per_pos"] = tuple(values["num_accepted_tokens_per_pos"])
    return GenerationStats(**values)
