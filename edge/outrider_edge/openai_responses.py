"""Our answers in OpenAI's words: whole ones, and pieces of a stream.

Pure. What vLLM says beyond OpenAI is said in vLLM's words; the rest is under `outrider`. Knows
nothing of HTTP, and of time only what it is told.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Final

from outrider_common.messages import ModelInfo
from outrider_common.records import GenerationStats
from outrider_edge.generation import GenerationResult
from outrider_edge.logprob_wording import (
    SpokenToken,
    SpokenTokens,
    TextOf,
    chat_logprobs,
    completion_logprobs,
)
from outrider_edge.told_choice import Place

Json = dict[str, Any]

UNVERIFIED: Final = "unverified"
"""The reason to end of a choice that no verifier has seen the end of."""

_MS: Final = 1000


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the answer to one request is worded; `ChatForm` and `CompletionForm` are the two ways.

    Attributes:
        answer_id: a name for the answer.
        created: when the request came, in seconds since 1970.
        model: the target's name.
        seed: of the first choice.
        text_of: what a token reads as alone; asked where log-probabilities are said.
    """

    answer_id: str
    created: int
    model: str
    seed: int
    text_of: TextOf = str

    def whole(self, results: Sequence[GenerationResult], num_prompt_tokens: int) -> Json:
        """The answer in one piece."""
        return {
            **self._head(self._whole_object),
            "choices": [self._choice(i, result) for i, result in enumerate(results)],
            "usage": usage(results, num_prompt_tokens),
            **self._extras(results),
        }

    def piece(self, index: int, text: str, spoken: Sequence[SpokenToken] = ()) -> Json:
        """More text of one choice, and the tokens that have become known with it."""
        return self._chunk(self._piece(index, text) | {"logprobs": self._logprobs(spoken)})

    def unverified(self, index: int, text: str, since: Place) -> Json:
        """More text of one choice that no verifier has seen; it begins at a place."""
        said = {"index": index, "unverified": _from(since)}
        return self._chunk(self._piece(index, text)) | {"outrider": said}

    def confirmed(self, index: int, until: Place, spoken: Sequence[SpokenToken] = ()) -> Json:
        """What was told of one choice up to a place is verified, for a client that keeps count."""
        place = {"until_position": until.position, "until_character": until.character}
        return self._beside(index, {"verified": place | self._late_logprobs(spoken)})

    def correction(
        self, index: int, since: Place, text: str, spoken: Sequence[SpokenToken] = ()
    ) -> Json:
        """What was told of a choice from a place on is void; this stands there, verified."""
        said = _from(since) | {"text": text}
        return self._beside(index, {"correction": said | self._late_logprobs(spoken)})

    def traced(self, index: int, events: Sequence[Json]) -> Json:
        """What happened on the way to one choice, for a client that watches."""
        return self._beside(index, {"events": list(events)})

    def ending(
        self, index: int, result: GenerationResult, spoken: Sequence[SpokenToken] = ()
    ) -> Json:
        """The end of one choice; its text has been sent, but perhaps not the last of its tokens."""
        said = {"finish_reason": finish_reason(result), "logprobs": self._logprobs(spoken)}
        return self._chunk(self._piece(index, "") | said)

    def last(
        self, results: Sequence[GenerationResult], num_prompt_tokens: int, *, include_usage: bool
    ) -> Json:
        """The last piece of a stream: no text, but what there is to say of all choices."""
        used = {"usage": usage(results, num_prompt_tokens)} if include_usage else {}
        return {**self._head(self._chunk_object), "choices": [], **used, **self._extras(results)}

    def opening(self, index: int) -> Json | None:
        """What comes before the text of a choice, if anything does."""
        return None

    @property
    def _whole_object(self) -> str:
        return "text_completion"

    @property
    def _chunk_object(self) -> str:
        return "text_completion"

    def _head(self, kind: str) -> Json:
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
        }

    def _chunk(self, choice: Json) -> Json:
        return {**self._head(self._chunk_object), "choices": [choice]}

    def _beside(self, index: int, said: Json) -> Json:
        """A piece without text that says something of one choice."""
        ours = {"index": index} | said
        return {**self._head(self._chunk_object), "choices": [], "outrider": ours}

    def _late_logprobs(self, spoken: Sequence[SpokenToken]) -> Json:
        """Those of tokens whose text was told before them, where they were asked for."""
        logprobs = self._logprobs(spoken)
        return {"logprobs": logprobs} if logprobs else {}

    def _choice(self, index: int, result: GenerationResult) -> Json:
        piece = self._piece(index, result.whole_text)
        logprobs = self._logprobs(_spoken(result))
        return piece | {"finish_reason": finish_reason(result), "logprobs": logprobs}

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> Json | None:
        return completion_logprobs(spoken, self.text_of)

    def _piece(self, index: int, text: str) -> Json:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": None}

    def _extras(self, results: Sequence[GenerationResult]) -> Json:
        return {"metrics": metrics(results), "outrider": _ours(results, self.seed)}


class CompletionForm(AnswerForm):
    """The form of `/v1/completions`."""

    __slots__ = ()


class ChatForm(AnswerForm):
    """The form of `/v1/chat/completions`."""

    __slots__ = ()

    def opening(self, index: int) -> Json:
        """Who speaks."""
        delta = {"role": "assistant", "content": ""}
        return self._chunk(self._with_delta(index, delta))

    @property
    def _whole_object(self) -> str:
        return "chat.completion"

    @property
    def _chunk_object(self) -> str:
        return "chat.completion.chunk"

    def _choice(self, index: int, result: GenerationResult) -> Json:
        return {
            "index": index,
            "message": {"role": "assistant", "content": result.whole_text, "refusal": None},
            "logprobs": self._logprobs(_spoken(result)),
            "finish_reason": finish_reason(result),
        }

    def _piece(self, index: int, text: str) -> Json:
        return self._with_delta(index, {"content": text} if text else {})

    def _logprobs(self, spoken: Sequence[SpokenToken]) -> Json | None:
        return chat_logprobs(spoken, self.text_of)

    def _with_delta(self, index: int, delta: Json) -> Json:
        return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def finish_reason(result: GenerationResult) -> str:
    """Why a choice ended, if that is known of the target's answer."""
    return result.finish_reason.value if result.is_verified else UNVERIFIED


def _from(place: Place) -> Json:
    return {"from_position": place.position, "from_character": place.character}


def _spoken(result: GenerationResult) -> list[SpokenToken]:
    """The tokens of a whole answer that stand for its text."""
    tokens = SpokenTokens()
    return [*tokens.take(result.records), *tokens.rest(result.finish_reason)]


def usage(results: Iterable[GenerationResult], num_prompt_tokens: int) -> Json:
    """What was used, over all choices. Predicted tokens are those that the edge drafted.

    Unverified ones are tokens of the answer, but nobody has accepted them.
    """
    results = list(results)
    stats = [result.stats for result in results]
    num_unverified = sum(len(result.unverified) for result in results)
    num_tokens = sum(one.num_tokens for one in stats) + num_unverified
    num_accepted = sum(one.num_accepted_tokens for one in stats)
    num_drafted = sum(one.num_draft_tokens for one in stats)
    return {
        "prompt_tokens": num_prompt_tokens,
        "completion_tokens": num_tokens,
        "total_tokens": num_prompt_tokens + num_tokens,
        "completion_tokens_details": {
            "accepted_prediction_tokens": num_accepted,
            "rejected_prediction_tokens": max(0, num_drafted - num_accepted),
        },
    }


def metrics(results: Sequence[GenerationResult]) -> Json:
    """The figures of one request in the words of vLLM's per-request metrics.

    Times only where there is one choice to which they belong.
    """
    stats = [result.stats for result in results]
    times = _times(stats[0]) if len(stats) == 1 else {}
    return times | {"speculative_decoding": _speculative_decoding(stats)}


def _times(stats: GenerationStats) -> Json:
    first_s = stats.time_to_first_token_s
    if first_s is None:
        return {}
    generation_s = stats.duration_s - first_s
    gaps = stats.num_tokens - 1
    return {
        "time_to_first_token_ms": first_s * _MS,
        "generation_time_ms": generation_s * _MS,
        "mean_itl_ms": generation_s / gaps * _MS if gaps else 0.0,
        "tokens_per_second": stats.tokens_per_s,
    }


def _speculative_decoding(stats: Sequence[GenerationStats]) -> Json:
    histogram = [sum(counts) for counts in zip_longest(*map(_histogram, stats), fillvalue=0)]
    num_steps = sum(histogram)
    num_accepted = sum(j * count for j, count in enumerate(histogram))
    num_drafted = sum(one.num_draft_tokens for one in stats)
    return {
        "mean_acceptance_length": 1 + num_accepted / num_steps if num_steps else 1.0,
        "draft_acceptance_rate": num_accepted / num_drafted if num_drafted else 0.0,
        "acceptance_histogram": histogram,
        "num_spec_steps": num_steps,
        "num_accepted_draft_tokens": num_accepted,
        "num_draft_tokens": num_drafted,
    }


def _histogram(stats: GenerationStats) -> list[int]:
    """How many passes with drafts accepted exactly 0, 1, 2, ... of them."""
    at_least = [stats.num_drafts, *stats.num_accepted_tokens_per_pos, 0]
    return [more - fewer for more, fewer in pairwise(at_least)]


def _ours(results: Sequence[GenerationResult], seed: int) -> Json:
    """What neither OpenAI nor vLLM has a word for."""
    mode = results[0].acceptance_mode
    return {
        "verified": all(result.is_verified for result in results),
        "acceptance_mode": mode.value,
        "is_lossless": mode.is_lossless,
        "seed": seed,
        "choices": [_figures(result) for result in results],
    }


def _figures(result: GenerationResult) -> Json:
    """The counters of a choice, and where what is not verified begins."""
    figures: Json = result.stats.as_json()
    if not result.is_verified:
        since = Place(result.unverified[0].position, len(result.text))
        num_tokens = len(result.unverified)
        figures |= {"unverified": _from(since) | {"num_tokens": num_tokens}}
    return figures


def model_card(info: ModelInfo, created: int) -> Json:
    """One entry of `/v1/models`."""
    return {
        "id": info.model,
        "object": "model",
        "created": created,
        "owned_by": "outrider",
        "max_model_len": info.max_positions,
    }
