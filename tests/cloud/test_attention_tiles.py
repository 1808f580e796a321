"""Tiles, page lists and walks through trees, against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from outrider_cloud.attention_tiles import Intervals, PageLists, PagePlaces, Tiles
from outrider_cloud.pass_layout import PassLayout, ancestry, tree_of
from outrider_cloud.target import CACHED_TEXT, Rows, Segment

PAGE_TOKENS = 4
WINDOWS = st.sampled_from([None, 1, 3, 9])


@st.composite
def segments(draw: st.DrawFn) -> list[Segment]:
    """Up to five sequences; page 0 is everybody's first page if their text fills it."""
    made = []
    for sequence in range(draw(st.integers(1, 5))):
        num_rows = draw(st.integers(1, 11))
        parents = [draw(st.integers(CACHED_TEXT, row - 1)) for row in range(num_rows)]
        rows = (
            Rows((5,) * num_rows, tuple(parents))
            if draw(st.booleans())
            else Rows.chain((5,) * num_rows)
        )
        length = draw(st.integers(0, 30))
        pages = list(range(12 * sequence + 1, 12 * sequence + 13))
        if length >= PAGE_TOKENS:
            pages[0] = 0
        made.append(Segment(tuple(pages), length, rows))
    return made


def layout_of(work: list[Segment]) -> PassLayout:
    return PassLayout.of(work, PAGE_TOKENS)


def seen_places(segment: Segment, row: int, window: int | None) -> list[int]:
    """Where in the text and behind it a row sees anything, from the definition."""
    depths = tree_of(segment.rows.parents).depths
    oldest = segment.length + depths[row] - (window or 10**6)
    own = np.flatnonzero(ancestry(segment.rows)[row])
    return [
        *(place for place in range(segment.length) if place > oldest),
        *(segment.length + i for i in own.tolist() if segment.length + depths[i] > oldest),
    ]


@given(work=segments(), size=st.sampled_from([1, 2, 4, 16]))
def test_every_row_is_in_one_tile_with_rows_of_its_own_segment(
    work: list[Segment], size: int
) -> None:
    layout = layout_of(work)
    tiles = Tiles.of(layout.begins, size)
    owners = np.repeat(np.arange(len(work)), np.diff(layout.begins))
    assert tiles.rows.shape == (len(tiles.segments), size)
    assert np.array_equal(tiles.rows.reshape(-1)[tiles.places], np.arange(len(layout.tokens)))
    assert (owners[tiles.rows] == tiles.segments[:, None]).all()
    assert len(tiles.segments) == sum(-(-len(one.rows.tokens) // size) for one in work)


@given(work=segments(), size=st.sampled_from([1, 4]), window=WINDOWS)
def test_a_tile_reads_every_page_that_a_row_of_it_sees_and_each_once(
    work: list[Segment], size: int, window: int | None
) -> None:
    layout = layout_of(work)
    tiles = Tiles.of(layout.begins, size)
    lists = PageLists.of(layout, tiles, PAGE_TOKENS, window)
    for tile, (rows, owner) in enumerate(zip(tiles.rows, tiles.segments, strict=True)):
        segment = work[owner]
        listed = lists.pages[tile, : lists.counts[tile]].tolist()
        local = sorted({int(row - layout.begins[owner]) for row in rows})
        places = [place for row in local for place in seen_places(segment, row, window)]
        needed = {segment.pages[place // PAGE_TOKENS] for place in places}
        assert len(set(listed)) == len(listed)
        assert needed <= set(listed) <= set(segment.pages)
        assert segment.pages[max(places) // PAGE_TOKENS] == listed[-1]
        assert not lists.pages[tile, lists.counts[tile] :].any()


@given(work=segments())
def test_pages_in_use_are_found_where_the_page_table_has_them(work: list[Segment]) -> None:
    places = PagePlaces.of(layout_of(work), PAGE_TOKENS)
    found = list(zip(places.segments, places.indices, places.pages, strict=True))
    assert found == [
        (number, index, page)
        for number, one in enumerate(work)
        for index, page in enumerate(one.pages)
        if index * PAGE_TOKENS < one.length + len(one.rows.tokens)
    ]


@given(work=segments())
def test_two_numbers_a_row_say_which_row_is_above_which_over_all_segments(
    work: list[Segment],
) -> None:
    layout = layout_of(work)
    walk = Intervals.of(layout)
    above = (walk.enters[None] <= walk.enters[:, None]) & (walk.enters[:, None] < walk.exits[None])
    expected = np.zeros_like(above)
    for begin, end, one in zip(layout.begins, layout.begins[1:], work, strict=False):
        expected[begin:end, begin:end] = ancestry(one.rows)
    np.testing.assert_array_equal(above, expected)
