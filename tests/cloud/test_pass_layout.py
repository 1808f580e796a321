"""The arrays of a pass, against what they mean row by row."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.pass_layout import PassLayout, ancestry
from outrider_cloud.target import CACHED_TEXT, Rows, Segment

PAGE = 4


@st.composite
def passes(draw: st.DrawFn) -> list[Segment]:
    segments = []
    for _ in range(draw(st.integers(1, 5))):
        num_rows = draw(st.integers(1, 9))
        tokens = tuple(draw(st.lists(st.integers(0, 99), min_size=num_rows, max_size=num_rows)))
        if draw(st.booleans()):
            rows = Rows.chain(tokens, first_logits_row=draw(st.integers(0, num_rows)))
        else:
            parents = tuple(draw(st.integers(CACHED_TEXT, i - 1)) for i in range(num_rows))
            rows = Rows(tokens, parents)
        length = draw(st.integers(0, 20))
        num_pages = -(-(length + num_rows) // PAGE) + draw(st.integers(0, 2))
        pages = draw(st.lists(st.integers(0, 50), min_size=num_pages, max_size=num_pages))
        segments.append(Segment(pages, length, rows))
    return segments


@given(segments=passes())
def test_every_row_stands_and_is_written_where_its_segment_says(segments: list[Segment]) -> None:
    layout = PassLayout.of(segments, PAGE)
    wanted = []
    for number, segment in enumerate(segments):
        begin, end = layout.begins[number : number + 2]
        assert end - begin == len(segment.rows.tokens)
        assert layout.lengths[number] == segment.length
        assert tuple(layout.tokens[begin:end]) == segment.rows.tokens
        for row, depth in enumerate(segment.rows.depths()):
            place = segment.length + row
            assert layout.positions[begin + row] == segment.length + depth
            assert layout.slots[begin + row] == segment.pages[place // PAGE] * PAGE + place % PAGE
            if row >= segment.rows.first_logits_row:
                wanted.append(begin + row)
        assert list(layout.page_tables[number, : len(segment.pages)]) == list(segment.pages)
        at, size = layout.sees_begins[number], int(end - begin)
        own = layout.sees[at : at + size**2].reshape(size, size)
        np.testing.assert_array_equal(own, ancestry(segment.rows))
    assert list(layout.wanted) == wanted


@given(segments=passes())
def test_a_row_sees_itself_and_what_its_parent_sees(segments: list[Segment]) -> None:
    for segment in segments:
        sees = ancestry(segment.rows)
        for row, parent in enumerate(segment.rows.parents):
            above = sees[parent] if parent != CACHED_TEXT else np.zeros_like(sees[row])
            expected = above.copy()
            expected[row] = True
            np.testing.assert_array_equal(sees[row], expected)
