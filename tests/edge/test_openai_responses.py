"""Our answers in OpenAI's words, read by the official client's own models."""

from typing import Any

import pytest
from fake_link import an_info
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from outrider_common.acceptance import AcceptanceMode
from outrider_common.messages import FinishReason
from outrider_common.records import GenerationStats
from outrider_edge.generation import GenerationResult
from outrider_edge.openai_responses import ChatForm, CompletionForm, metrics, model_card, usage

CHAT = ChatForm("chatcmpl-1", 1700000000, "fake", 7)
COMPLETION = CompletionForm("cmpl-1", 1700000000, "fake", 7)

stats = st.builds(
    GenerationStats,
    num_accepted_tokens=st.integers(0, 50),
    num_corrections=st.integers(0, 50),
    num_hedged=st.integers(0, 50),
    num_guessed=st.integers(0, 50),
    num_draft_tokens=st.integers(50, 100),
    num_drafts=st.integers(20, 30),
    num_accepted_tokens_per_pos=st.lists(st.integers(1, 20), max_size=5).map(
        lambda counts: tuple(sorted(counts, reverse=True))
    ),
)


def a_result(text: str = "Yes.", one: GenerationStats | None = None) -> GenerationResult:
    return GenerationResult(text, FinishReason.STOP, (), one or GenerationStats())


def validated(model: Any, document: dict[str, Any]) -> Any:
    """As the client's own class, strictly."""
    return model.model_validate(document, strict=True)


def test_a_whole_chat_is_what_the_client_expects() -> None:
    answer = validated(ChatCompletion, CHAT.whole([a_result("A"), a_result("B")], 3))
    assert [choice.message.content for choice in answer.choices] == ["A", "B"]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 3


def test_a_whole_completion_is_what_the_client_expects() -> None:
    answer = validated(Completion, COMPLETION.whole([a_result("A")], 3))
    assert answer.choices[0].text == "A"


def test_the_pieces_of_a_chat_make_its_text() -> None:
    documents = [
        CHAT.opening(0),
        CHAT.piece(0, "Y"),
        CHAT.piece(0, "es"),
        CHAT.ending(0, a_result()),
    ]
    chunks = [validated(ChatCompletionChunk, document) for document in documents]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Yes"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, None, "stop"]


def test_the_last_piece_has_no_choices_and_usage_only_if_asked_for() -> None:
    last = CHAT.last([a_result()], 3, include_usage=True)
    assert validated(ChatCompletionChunk, last).usage.prompt_tokens == 3
    assert last["choices"] == []
    assert "usage" not in CHAT.last([a_result()], 3, include_usage=False)


@pytest.mark.parametrize("mode", AcceptanceMode)
def test_every_answer_says_whether_the_text_is_the_targets_own(mode: AcceptanceMode) -> None:
    result = GenerationResult("x", FinishReason.LENGTH, (), GenerationStats(), mode)
    for document in (CHAT.whole([result], 1), COMPLETION.last([result], 1, include_usage=False)):
        assert document["outrider"]["acceptance_mode"] == mode.value
        assert document["outrider"]["is_lossless"] is mode.is_lossless
        assert document["outrider"]["seed"] == 7


@given(st.lists(stats, min_size=1, max_size=3), st.integers(1, 100))
def test_usage_adds_up_over_all_choices(many: list[GenerationStats], num_prompt: int) -> None:
    used = usage([a_result(one=one) for one in many], num_prompt)
    details = used["completion_tokens_details"]
    assert used["completion_tokens"] == sum(one.num_tokens for one in many)
    assert used["total_tokens"] == num_prompt + used["completion_tokens"]
    assert details["accepted_prediction_tokens"] == sum(one.num_accepted_tokens for one in many)
    drafted = sum(details.values())
    assert drafted == sum(one.num_draft_tokens for one in many)


@given(st.lists(stats, min_size=1, max_size=3))
def test_the_histogram_counts_every_pass_with_drafts_once(many: list[GenerationStats]) -> None:
    figures = metrics([a_result(one=one) for one in many])["speculative_decoding"]
    histogram = figures["acceptance_histogram"]
    assert all(count >= 0 for count in histogram)
    assert sum(histogram) == figures["num_spec_steps"] == sum(one.num_drafts for one in many)
    accepted = sum(j * count for j, count in enumerate(histogram))
    assert figures["num_accepted_draft_tokens"] == accepted
    assert accepted == sum(sum(one.num_accepted_tokens_per_pos) for one in many)
    assert figures["mean_acceptance_length"] == pytest.approx(1 + accepted / sum(histogram))


def test_the_figures_are_those_of_vllms_own_example() -> None:
    """43 passes of 3 drafts: 39 accepted none, 1 one, 3 all three."""
    one = GenerationStats(
        num_drafts=43, num_draft_tokens=129, num_accepted_tokens_per_pos=(4, 3, 3)
    )
    assert metrics([a_result(one=one)])["speculative_decoding"] == {
        "mean_acceptance_length": pytest.approx(1.2325581395348837),
        "draft_acceptance_rate": pytest.approx(0.07751937984496124),
        "acceptance_histogram": [39, 1, 0, 3],
        "num_spec_steps": 43,
        "num_accepted_draft_tokens": 10,
        "num_draft_tokens": 129,
    }


def test_times_are_in_milliseconds_and_only_where_there_is_one_choice() -> None:
    one = GenerationStats(num_hedged=11, time_to_first_token_s=0.25, duration_s=1.25)
    figures = metrics([a_result(one=one)])
    assert figures["time_to_first_token_ms"] == 250
    assert figures["generation_time_ms"] == 1000
    assert figures["mean_itl_ms"] == 100
    assert figures["tokens_per_second"] == pytest.approx(8.8)
    assert "mean_itl_ms" not in metrics([a_result(one=one)] * 2)


def test_a_generation_without_drafts_has_figures_too() -> None:
    figures = metrics([a_result()])["speculative_decoding"]
    assert figures["mean_acceptance_length"] == 1.0
    assert figures["draft_acceptance_rate"] == 0.0


def test_the_model_is_what_the_client_expects() -> None:
    card = validated(Model, model_card(an_info(), 1700000000))
    assert card.id == "fake"
