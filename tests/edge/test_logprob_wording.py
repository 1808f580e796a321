"""Log-probabilities in OpenAI's words, and which tokens stand for text."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.completion_choice import Logprobs

from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import FinishReason
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_edge.logprob_wording import (
    UNLIKELY,
    SpokenTokens,
    chat_logprobs,
    completion_logprobs,
)

TEXTS = {1: "It", 2: " rides", 3: "\N{REPLACEMENT CHARACTER}", 4: "", 5: "It"}
END = 4


def text_of(token: int) -> str:
    return TEXTS[token]


def a_record(
    position: int, token: int, text: str | None = None, top: Any = ((1, -0.5), (2, -1.5))
) -> TokenRecord:
    said = TEXTS[token] if text is None else text
    return TokenRecord(
        position, token, said, TokenOrigin.HEDGED, 0.1, logprobs=TokenLogprobs(-0.75, top)
    )


def spoken(*records: TokenRecord, reason: FinishReason = FinishReason.STOP) -> list[Any]:
    tokens = SpokenTokens()
    return [*tokens.take(records), *tokens.rest(reason)]


def test_a_chats_are_what_the_client_expects() -> None:
    said = chat_logprobs(spoken(a_record(7, 1), a_record(8, 2)), text_of)
    read = ChoiceLogprobs.model_validate(said, strict=True)
    assert read.content is not None
    assert [one.token for one in read.content] == ["It", " rides"]
    assert [one.logprob for one in read.content] == [-0.75, -0.75]
    assert read.content[1].bytes == list(b" rides")
    assert [(top.token, top.logprob) for top in read.content[0].top_logprobs] == [
        ("It", -0.5),
        (" rides", -1.5),
    ]


def test_a_completions_are_what_the_client_expects() -> None:
    said = completion_logprobs(spoken(a_record(7, 1), a_record(8, 2, top=((1, -0.5),))), text_of)
    read = Logprobs.model_validate(said, strict=True)
    assert read.tokens == ["It", " rides"]
    assert read.token_logprobs == [-0.75, -0.75]
    assert read.text_offset == [0, 2]
    assert read.top_logprobs == [{"It": -0.5, " rides": -1.5}, {"It": -0.5, " rides": -0.75}]


def test_of_two_tokens_that_read_alike_a_completion_tells_the_likelier() -> None:
    said = completion_logprobs(spoken(a_record(7, 2, top=((5, -0.1), (1, -3.0)))), text_of)
    assert said is not None
    assert said["top_logprobs"] == [{"It": -0.1, " rides": -0.75}]


@pytest.mark.parametrize("word", [chat_logprobs, completion_logprobs])
def test_who_did_not_ask_is_told_nothing(word: Any) -> None:
    record = TokenRecord(1, 1, "It", TokenOrigin.HEDGED, 0.1)
    assert word(spoken(record), text_of) is None


def test_a_part_of_a_character_has_no_bytes_of_its_own() -> None:
    said = chat_logprobs(spoken(a_record(1, 3, ""), a_record(2, 3, "é")), text_of)
    assert said is not None
    assert [one["bytes"] for one in said["content"]] == [None, None]


def test_what_cannot_be_has_a_number_that_json_knows() -> None:
    said = chat_logprobs(spoken(a_record(1, 1, top=((2, -math.inf),))), text_of)
    assert said is not None
    assert said["content"][0]["top_logprobs"][0]["logprob"] == UNLIKELY


def test_the_end_of_text_does_not_stand_for_text() -> None:
    assert [one.record.token for one in spoken(a_record(1, 1), a_record(2, END))] == [1]
    with_flushed_text = spoken(a_record(1, 1, ""), a_record(2, END, "It"))
    said = chat_logprobs(with_flushed_text, text_of)
    assert said is not None
    assert [one["token"] for one in said["content"]] == ["It"]


def test_a_cut_answer_ends_with_what_has_no_text_yet() -> None:
    cut = spoken(a_record(1, 1), a_record(2, 3, ""), reason=FinishReason.LENGTH)
    assert [one.record.token for one in cut] == [1, 3]


def test_tokens_of_a_stop_string_do_not_stand_for_text() -> None:
    assert [one.record.token for one in spoken(a_record(1, 1), a_record(2, 2, ""))] == [1]


@given(
    texts=st.lists(st.sampled_from(["", "a", "bcd"]), max_size=12),
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=12),
    reason=st.sampled_from(FinishReason),
)
def test_however_a_stream_is_cut_its_tokens_and_places_are_those_of_the_whole(
    texts: list[str], sizes: list[int], reason: FinishReason
) -> None:
    records = [a_record(i, 1, text) for i, text in enumerate(texts)]
    whole, pieces = spoken(*records, reason=reason), SpokenTokens()
    found, left = [], records
    for size in sizes:
        found += pieces.take(left[:size])
        left = left[size:]
    assert found + pieces.rest(reason) == whole
    text = "".join(texts)
    for one in whole:
        assert text.startswith(one.record.text, one.offset)
