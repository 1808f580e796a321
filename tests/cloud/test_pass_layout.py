"""The arrays of a pass, against what they mean row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.pass_layout import MAX_KEPT_ROWS, PassLayout, ancestry, tree_of
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


def parents_of(num_rows: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(CACHED_TEXT, row - 1) for row in range(num_rows)])


def depths_of(rows: Rows) -> list[int]:
    """For each row how many rows its path has above it, one after the other."""
    depths: list[int] = []
    for parent in rows.parents:
        depths.append(0 if parent == CACHED_TEXT else depths[parent] + 1)
    return depths


@given(segments=passes())
def test_every_row_stands_and_is_written_where_its_segment_says(segments: list[Segment]) -> None:
    layout = PassLayout.of(segments, PAGE)
    wanted = []
    for number, segment in enumerate(segments):
        begin, end = layout.begins[number : number + 2]
        assert end - begin == len(segment.rows.tokens)
        assert layout.lengths[number] == segment.length
        assert tuple(layout.tokens[begin:end]) == segment.rows.tokens
        for row, depth in enumerate(depths_of(segment.rows)):
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


@given(parents=st.integers(1, MAX_KEPT_ROWS + 2).flatmap(parents_of))
def test_what_is_kept_of_a_tree_is_what_its_parents_say(parents: tuple[int, ...]) -> None:
    for _ in range(2):  # worked out, and looked up
        tree = tree_of(parents)
        assert tree.depths.tolist() == depths_of(Rows(parents, parents))
        above = [{row} for row in range(len(parents))]
        for row, parent in enumerate(parents):
            above[row] |= above[parent] if parent != CACHED_TEXT else set()
        sees = tree.sees.reshape(len(parents), -1)
        assert [set(np.flatnonzero(seen).tolist()) for seen in sees] == above
        for array in tree:
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
