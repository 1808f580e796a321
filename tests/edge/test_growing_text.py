"""A text as it was at one moment, in a list that goes on growing."""

from hypothesis import given
from hypothesis import strategies as st

from outrider_edge.growing_text import GrowingText

TOKENS = st.lists(st.integers(0, 9), max_size=12)


@given(before=TOKENS, after=TOKENS, index=st.slices(14))
def test_it_stays_as_it_was_when_its_list_grows(
    before: list[int], after: list[int], index: slice
) -> None:
    tokens = list(before)
    text = GrowingText(tokens)
    tokens += after
    assert list(text) == before
    assert len(text) == len(before)
    assert text[index] == before[index]
    assert [text[i] for i in range(-len(before), len(before))] == before * 2
    assert [text[start:] for start in range(14)] == [before[start:] for start in range(14)]


def test_only_texts_of_the_very_same_list_are_beginnings_of_one_another() -> None:
    tokens = [1, 2]
    text = GrowingText(tokens)
    tokens.append(3)
    assert GrowingText(tokens).is_of_the_list_of(text)
    assert not GrowingText(list(tokens)).is_of_the_list_of(text)
    assert not text.is_of_the_list_of(tokens)
