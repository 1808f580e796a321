"""A player that is other software: Transformers' `generate`, plain, assisted and by lookup.

Run as a process of its own, on one thread. The target is the verifier's own weights in fp32; the
assistant is what the settings say.
"""

import asyncio
import json
import sys
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from outrider_bench import json_lines
from outrider_bench.assistants import AssistantKind
from outrider_bench.questions import Play, Played, Question, Reply, play_from_json
from outrider_common.errors import OutriderError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LOOKUP_TOKENS: Final = 10
"""Most tokens that `prompt_lookup_num_tokens` proposes: the value of Transformers' own guide."""


@dataclass(frozen=True, slots=True)
class TransformersPlayerSettings:
    """The models.

    Attributes:
        target: the directory of the target.
        assistant: the directory of the assistant; None where nothing is assisted.
        kind: what is made of its weights.
    """

    target: str
    assistant: str | None
    kind: AssistantKind


class TransformersPlayer:
    """Answers one question after the other: `generate` has no continuous batching.

    Args:
        target: the model.
        assistant: drafts for it.
    """

    def __init__(self, target: "PreTrainedModel", assistant: "PreTrainedModel | None") -> None:
        self._target = target
        self._assistant = assistant

    async def play(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answer the questions of a `Play`, one after the other."""
        play = play_from_json(command["play"])
        began = time.perf_counter()
        replies = [self._reply(play, question) for question in play.questions]
        return Played(tuple(replies), (time.perf_counter() - began) * 1e3).as_json()

    async def leave(self, _command: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing is remembered between answers."""
        return {}

    def _reply(self, play: Play, question: Question) -> Reply:
        import torch

        torch.manual_seed(question.seed)
        watch = _Watch()
        prompt = torch.tensor([question.tokens])
        generate: Any = self._target.generate
        output = generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=play.max_tokens,
            streamer=watch,
            **_sampling(play.temperature),
            **self._means(play.plan.means),
        )
        tokens = output[0, len(question.tokens) :].tolist()
        return Reply(tuple(tokens), watch.first_ms, watch.last_ms)

    def _means(self, means: str) -> dict[str, Any]:
        match means:
            case "assisted":
                return {"assistant_model": self._assistant}
            case "lookup":
                return {"prompt_lookup_num_tokens": LOOKUP_TOKENS}
            case _:
                return {}


class _Watch:
    """Takes tokens as `generate` finds them, and keeps the times of the first and the last."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._times: list[float] = []

    def put(self, _tokens: object) -> None:
        self._times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to show."""

    @property
    def first_ms(self) -> float:
        """Since the request; what is put before it is the prompt."""
        return (self._times[1] - self._began) * 1e3

    @property
    def last_ms(self) -> float:
        return (self._times[-1] - self._began) * 1e3


def _sampling(temperature: float) -> dict[str, Any]:
    if temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}


def _load(settings: TransformersPlayerSettings) -> TransformersPlayer:
    import torch
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    from outrider_cloud.loading import load_causal_lm

    torch.set_num_threads(1)
    disable_progress_bar()  # type: ignore[no-untyped-call]
    set_verbosity_error()  # type: ignore[no-untyped-call]
    target = load_causal_lm(Path(settings.target), lambda _config: None)
    if settings.assistant is None:
        return TransformersPlayer(target, None)
    assistant = load_causal_lm(Path(settings.assistant), lambda _config: None)
    if settings.kind is AssistantKind.DYNAMIC_INT8:
        quantise: Any = torch.ao.quantization.quantize_dynamic
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated, in favour of a package of its own
            assistant = quantise(assistant, {torch.nn.Linear}, dtype=torch.qint8)
    return TransformersPlayer(target, assistant)


async def _run(settings: TransformersPlayerSettings) -> None:
    replies = json_lines.take_output()
    try:
        player = _load(settings)
    except OutriderError as error:
        json_lines.reply(replies, json_lines.refusal(error))
        return
    json_lines.reply(replies, {})
    await json_lines.serve(replies, {"play": player.play, "leave": player.leave})


def _settings(text: str) -> TransformersPlayerSettings:
    document = json.loads(text)
    return TransformersPlayerSettings(**document | {"kind": AssistantKind(document["kind"])})


if __name__ == "__main__":
    asyncio.run(_run(_settings(sys.argv[1])))
