"""The recorded target: what was heard, out of the pages, in the time that it took."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider_cloud.paged_sequence import Move
from outrider_cloud.recorded_target import RecordedTarget
from outrider_cloud.target import CACHED_TEXT, Rows, Segment
from outrider_common.recording import RecordedText, Recording

PAGE_TOKENS = 4
EOS = 2
PROMPT, ANSWER = (5, 6, 7), (10, 11, 12, 13, EOS)
RECORDING = Recording(
    model="a-model",
    tokenizer="v1:" + "0" * 64,
    vocab_size=50,
    max_positions=64,
    eos_token_ids=(EOS,),
    c0_s=0.0,
    c1_s=0.0,
    texts=(RecordedText(PROMPT, ANSWER), RecordedText((8,), (9, 9, 9, 4))),
)


def a_target() -> RecordedTarget:
    return RecordedTarget(RECORDING, num_pages=16, page_tokens=PAGE_TOKENS)


def next_tokens(target: RecordedTarget, segments: list[Segment]) -> list[int]:
    return [int(row.argmax()) for row in target.forward(segments).numpy()]


def test_an_answer_is_written_token_by_token() -> None:
    target, pages = a_target(), [3, 1, 2]
    written = next_tokens(target, [Segment(pages, 0, Rows.chain(PROMPT, first_logits_row=2))])
    for length in range(len(PROMPT), len(PROMPT) + len(ANSWER) - 1):
        written += next_tokens(target, [Segment(pages, length, Rows.chain(written[-1:]))])
    assert tuple(written) == ANSWER


@settings(deadline=None)
@given(
    known=st.integers(0, len(ANSWER)),
    tokens=st.lists(st.integers(0, 13), min_size=1, max_size=10),
    data=st.data(),
)
def test_only_what_was_heard_is_followed_by_what_was_heard(
    known: int, tokens: list[int], data: st.DataObject
) -> None:
    """Every row of a tree goes on as the answer does, if its path is the answer's, or else ends."""
    text = [*PROMPT, *ANSWER[:known]]
    parents = [data.draw(st.integers(CACHED_TEXT, i - 1)) for i in range(len(tokens))]
    target, pages = a_target(), [0, 5, 2, 7, 4]
    target.forward([Segment(pages, 0, Rows.chain(text, first_logits_row=len(text)))])
    found = next_tokens(target, [Segment(pages, len(text), Rows(tuple(tokens), tuple(parents)))])
    paths: list[tuple[int, ...]] = []
    for token, parent in zip(tokens, parents, strict=True):
        paths.append((*(paths[parent] if parent != CACHED_TEXT else ()), token))
    written = [(*ANSWER[:known], *path) for path in paths]
    assert found == [
        ANSWER[len(each)] if each == ANSWER[: len(each)] and len(each) < len(ANSWER) else EOS
        for each in written
    ]


def test_several_texts_in_one_pass_go_on_each_in_its_way() -> None:
    one = Segment([1], 0, Rows.chain(PROMPT, first_logits_row=2))
    other = Segment([2], 0, Rows.chain([8], first_logits_row=0))
    assert next_tokens(a_target(), [one, other]) == [10, 9]


def test_a_text_read_through_a_wrong_page_table_is_not_known() -> None:
    target = a_target()
    target.forward([Segment([3], 0, Rows.chain(PROMPT, first_logits_row=3))])
    assert next_tokens(target, [Segment([3], 3, Rows.chain([10]))]) == [11]
    assert next_tokens(target, [Segment([4], 3, Rows.chain([10]))]) == [EOS]


def test_a_moved_row_is_text_at_its_new_place() -> None:
    target = a_target()
    target.forward([Segment([1], 0, Rows.chain(PROMPT, first_logits_row=3))])
    target.forward([Segment([1, 2], 3, Rows((30, 10), (CACHED_TEXT, CACHED_TEXT)))])
    target.move([Move(8, 7)])
    assert next_tokens(target, [Segment([1, 2], 4, Rows.chain([11]))]) == [12]


def test_a_pass_takes_as_long_as_it_was_heard_to_take() -> None:
    slept: list[float] = []
    recording = replace(RECORDING, c0_s=2.0, c1_s=0.5)
    target = RecordedTarget(recording, 4, sleep=slept.append, clock=lambda: 0.0)
    target.forward([Segment([0], 0, Rows.chain(PROMPT)), Segment([1], 0, Rows.chain([8]))])
    assert slept == [pytest.approx(4.0)]


def test_a_target_says_what_the_recording_says() -> None:
    target = RecordedTarget(RECORDING, num_pages=9, page_tokens=5, bytes_per_token=10)
    assert (target.vocab_size, target.max_positions, target.eos_token_ids) == (50, 64, (EOS,))
    shape = target.cache_shape
    assert (shape.num_pages, shape.page_tokens, shape.bytes_per_page) == (9, 5, 50)
