"""What is kept of an answer: whatever happens to the end of its file, the lines before it hold."""

from typing import Any

from fake_runtime import a_record, a_result_stats
from hypothesis import given
from hypothesis import strategies as st

from outrider_common.logprobs import TokenLogprobs
from outrider_common.messages import FinishReason
from outrider_common.records import TokenOrigin, TokenRecord
from outrider_edge.choice_stream import Event, Finished, Traced, Written
from outrider_edge.generation import GenerationResult
from outrider_edge.journal.kept_answer import (
    Heading,
    KeptAnswer,
    Spelling,
    digest,
    event_json,
    heading_json,
    read_answer,
)
from outrider_edge.journal.lines import encode_line
from outrider_edge.tracing import SessionOpened

HEADING = Heading("5a17", "asked", "meant", "chatcmpl-1", 1700000000, "fake", 7, 2, 3)
TEXTS = ("Both ride.", "Ahéad\n")


def an_ending(index: int, records: list[TokenRecord]) -> Finished:
    text = "".join(record.text for record in records)
    stats = a_result_stats(records)
    return Finished(index, GenerationResult(text, FinishReason.STOP, tuple(records), stats))


def an_answer() -> list[Event | Spelling]:
    """Two choices, token by token in turn."""
    records = [[a_record(3 + i, c) for i, c in enumerate(text)] for text in TEXTS]
    events: list[Event | Spelling] = [
        Written(index, records[index][i])
        for i in range(max(map(len, TEXTS)))
        for index in range(2)
        if i < len(records[index])
    ]
    return [*events, Spelling(5, "five"), *(an_ending(i, records[i]) for i in range(2))]


EVENTS = an_answer()
LINES = [encode_line(heading_json(HEADING)), *(encode_line(event_json(one)) for one in EVENTS)]
CONTENT = b"".join(LINES)


def seen(answer: KeptAnswer) -> tuple[Any, ...]:
    return answer.heading, answer.events, answer.spellings


def test_a_file_says_what_was_kept() -> None:
    answer, num_bytes = read_answer(CONTENT)
    assert answer is not None
    assert num_bytes == len(CONTENT)
    assert answer.heading == HEADING
    assert answer.is_complete
    assert answer.events == [one for one in EVENTS if not isinstance(one, Spelling)]
    assert answer.spellings == {5: "five"}


@given(st.integers(0, len(CONTENT)))
def test_a_file_cut_at_any_byte_holds_its_whole_lines(num_bytes: int) -> None:
    answer, num_good = read_answer(CONTENT[:num_bytes])
    whole = [sum(map(len, LINES[:i])) for i in range(len(LINES) + 1)]
    assert num_good == max(size for size in whole if size <= num_bytes)
    assert (answer is None) == (num_good == 0)
    if answer:
        assert read_answer(CONTENT[:num_good])[0] == answer


@given(st.integers(0, len(CONTENT) - 1), st.integers(1, 255))
def test_what_follows_a_damaged_byte_does_not_count(place: int, change: int) -> None:
    damaged = bytearray(CONTENT)
    damaged[place] ^= change
    answer, num_good = read_answer(bytes(damaged))
    assert num_good <= place
    expected, _ = read_answer(CONTENT[:num_good])
    assert (answer and seen(answer)) == (expected and seen(expected))


@given(st.data())
def test_a_file_that_was_cut_and_gone_on_with_is_as_good_as_new(data: st.DataObject) -> None:
    cut = data.draw(st.integers(len(LINES[0]), len(CONTENT)))
    _, num_good = read_answer(CONTENT[:cut])
    answer, _ = read_answer(CONTENT[:num_good] + CONTENT[num_good:])
    assert answer == read_answer(CONTENT)[0]


def test_a_line_that_is_missing_in_the_middle_ends_what_counts() -> None:
    answer, num_good = read_answer(b"".join([*LINES[:3], *LINES[5:]]))
    assert answer is not None
    assert num_good == len(b"".join(LINES[:3]))
    assert len(answer.events) == 2


def test_an_ending_without_all_its_tokens_is_none() -> None:
    answer, _ = read_answer(LINES[0] + LINES[-1])
    assert answer is not None
    assert answer.events == []


def test_another_version_is_not_read() -> None:
    line = encode_line(heading_json(HEADING) | {"version": 2})
    assert read_answer(line + b"".join(LINES[1:])) == (None, 0)


def test_log_probabilities_are_kept() -> None:
    logprobs = TokenLogprobs(-0.5, ((65, -0.5), (66, -1.5)))
    record = TokenRecord(3, 65, "A", TokenOrigin.GUESSED, 0.5, logprobs=logprobs)
    answer, _ = read_answer(LINES[0] + encode_line(event_json(Written(0, record))))
    assert answer is not None
    assert answer.events == [Written(0, record)]


def test_what_happened_on_the_way_is_not_kept() -> None:
    assert event_json(Traced(0, SessionOpened(0.1))) is None


def test_a_digest_is_of_its_salt_too() -> None:
    assert digest("a", b"x") != digest("b", b"x")
    assert digest("a", b"x") != digest("a", b"y")
