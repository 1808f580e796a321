"""Text that a target writes, and what is kept of its distributions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from outrider_common.errors import ModelFileError
from outrider_common.sampling import SamplingParams
from outrider_distill.assignments import Assignment, Assignments
from outrider_distill.chat_format import ChatFormat
from outrider_distill.samples import Sample
from outrider_distill.writing import Writer, WritingLimits

GREEDY = SamplingParams()


def test_what_is_kept_are_the_target_s_own_most_probable_tokens(
    tiny_samples: Sequence[Sample], tiny_model: Any
) -> None:
    for sample in tiny_samples[:12]:
        tokens = torch.from_numpy(sample.tokens)[None].long()
        with torch.no_grad():
            log_probs = tiny_model(tokens).logits[0, :-1].log_softmax(-1)
        expected = log_probs.topk(sample.top_ids.shape[1]).values.numpy()
        np.testing.assert_allclose(sample.top_log_probs, expected, atol=5e-3)
        chosen = log_probs.gather(-1, torch.from_numpy(sample.top_ids).long()).numpy()
        np.testing.assert_allclose(chosen, expected, atol=1e-4)


def test_a_greedy_answer_is_the_target_s_best_token_at_every_place(
    tiny_writer: Writer, tiny_chat: ChatFormat
) -> None:
    given = tiny_chat.framed((70, 71, 72))
    (sample,) = tiny_writer.write([Assignment(given, False, GREEDY)])
    answer = slice(len(given) - 1, None)
    assert sample.tokens[: len(given)].tolist() == list(given)
    assert (sample.top_ids[answer, 0] == sample.tokens[len(given) :]).all()


def test_a_text_does_not_depend_on_what_is_written_beside_it(
    tiny_writer: Writer, tiny_assignments: Assignments, tiny_samples: Sequence[Sample]
) -> None:
    for number in (0, 1, 17, 40):
        (alone,) = tiny_writer.write([tiny_assignments[number]])
        together = tiny_samples[number]
        assert alone.tokens.tolist() == together.tokens.tolist()
        np.testing.assert_allclose(alone.top_log_probs, together.top_log_probs, atol=5e-3)


def test_the_same_call_writes_the_same_bits(
    tiny_writer: Writer, tiny_assignments: Assignments, tiny_samples: Sequence[Sample]
) -> None:
    again = tiny_writer.write([tiny_assignments[number] for number in range(60)])
    for one, other in zip(again, tiny_samples, strict=True):
        assert one.tokens.tolist() == other.tokens.tolist()
        assert (one.top_ids == other.top_ids).all()
        assert (one.top_log_probs == other.top_log_probs).all()


def test_a_question_of_its_own_is_framed_like_one_that_is_given(
    tiny_samples: Sequence[Sample], tiny_assignments: Assignments, tiny_chat: ChatFormat
) -> None:
    before, after = list(tiny_chat.before), list(tiny_chat.after)
    for number, sample in enumerate(tiny_samples):
        if tiny_assignments[number].asks_itself:
            tokens = sample.tokens.tolist()
            places = range(len(before), len(tokens) - len(after) + 1)
            assert tokens[: len(before)] == before
            assert any(tokens[place : place + len(after)] == after for place in places)


def test_rows_to_learn_from_begin_behind_what_every_text_begins_with(
    tiny_samples: Sequence[Sample], tiny_chat: ChatFormat
) -> None:
    for sample in tiny_samples:
        assert sample.begin == len(tiny_chat.before) - 1
        assert len(sample.top_ids) == len(sample.top_log_probs) == len(sample.tokens) - 1
        assert sample.num_rows == len(sample.tokens) - len(tiny_chat.before)


def test_a_text_ends_where_it_is_told_to(tiny_writer: Writer, tiny_chat: ChatFormat) -> None:
    given = tiny_chat.framed((70,))
    what = Assignment(given, False, SamplingParams(temperature=1.0, seed=3))
    texts = tiny_writer.write([what, replace(what, most_tokens=len(given) + 2)])
    assert len(texts[0].tokens) <= 48
    assert texts[1].tokens.tolist() == texts[0].tokens[: len(given) + 2].tolist()


def test_progress_counts_the_tokens_that_were_written(
    tiny_writer: Writer, tiny_chat: ChatFormat
) -> None:
    given = tiny_chat.framed((70,))
    told: list[int] = []
    (text,) = tiny_writer.write([Assignment(given, False, GREEDY)], told.append)
    assert sum(told) == len(text.tokens) - len(given)


def test_a_cache_without_room_for_one_text_is_refused(
    tiny_writer: Writer, tiny_chat: ChatFormat
) -> None:
    class NoRoom:
        max_positions = 10**9
        eos_token_ids = ()
        cache_shape = tiny_writer._target.cache_shape

    target: Any = NoRoom()
    with pytest.raises(ModelFileError, match="no room for one text of 100000000 tokens"):
        Writer(target, tiny_chat, WritingLimits(max_tokens=10**8))
