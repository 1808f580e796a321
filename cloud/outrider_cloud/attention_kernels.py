"""The compiled part of attention on a CPU: loops over pages, four query rows at a time.

A key page of one head is laid out [head_size, tokens], so that the scores of its 16 tokens are
two vectors; a value page [tokens, head_size]. Four query rows share what is loaded: query heads
with the same key head count as rows (grouped-query attention, arXiv:2305.13245). The page after the
next is prefetched, for the processor cannot know where it lies. What a row gets depends on its own
query, text and path, to the last bit: not on the other rows of the pass, nor on where between them
its path lies. Knows nothing of models or passes.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from outrider_cloud.compiled import compiled
from outrider_cloud.pass_layout import Ints
from outrider_cloud.simd import (
    LANES,
    add8,
    exp8,
    fma8,
    lane8,
    load8,
    max8,
    prefetch,
    splat8,
    store8,
)

PAGE_TOKENS: Final = 16
"""Tokens of a page: two vectors of scores."""

BLOCK: Final = 64
"""Query rows, heads counted, whose scores are held at a time."""

_GROUP: Final = 4  # query rows that share what is loaded
_AHEAD: Final = 2  # pages

Floats = NDArray[np.float32]


class Arrays(NamedTuple):
    """What a layer's attention reads and writes; all flat but the page tables."""

    query: Floats
    keys: Floats
    values: Floats
    mixed: Floats
    lengths: Ints
    begins: Ints
    positions: Ints
    page_tables: Ints
    sees: NDArray[np.bool_]
    sees_begins: Ints


class Numbers(NamedTuple):
    """The sizes of a layer's attention; a window of 0 is none."""

    kv_heads: int
    group: int
    size: int
    padded: int
    window: int
    scaling: np.float32


@compiled
def cut_into_items(begins: Ints, rows_per_item: int) -> Ints:
    """Pieces of segments: (segment, its first row, the row behind its last), [items, 3]."""
    num_items = 0
    for segment in range(len(begins) - 1):
        num_items += -(-(begins[segment + 1] - begins[segment]) // rows_per_item)
    items = np.empty((num_items, 3), np.int64)
    item = 0
    for segment in range(len(begins) - 1):
        num_rows = begins[segment + 1] - begins[segment]
        for first in range(0, num_rows, rows_per_item):
            items[item, 0] = segment
            items[item, 1] = first
            items[item, 2] = min(first + rows_per_item, num_rows)
            item += 1
    return items


@compiled
def write(
    key: Floats,
    value: Floats,
    slots: Ints,
    keys: Floats,
    values: Floats,
    kv_heads: int,
    size: int,
    padded: int,
) -> None:
    """Put the keys and values of a pass into their slots."""
    for row in range(len(slots)):
        page, offset = slots[row] // PAGE_TOKENS, slots[row] % PAGE_TOKENS
        for head in range(kv_heads):
            source = (row * kv_heads + head) * size
            begin = (page * kv_heads + head) * padded * PAGE_TOKENS
            for i in range(padded):
                is_there = i < size
                keys[begin + i * PAGE_TOKENS + offset] = key[source + i] if is_there else 0
                values[begin + offset * padded + i] = value[source + i] if is_there else 0


@compiled
def copy(
    sources: Ints, destinations: Ints, keys: Floats, values: Floats, kv_heads: int, padded: int
) -> None:
    """Copy slots, one after the other."""
    for i in range(len(sources)):
        from_page, from_offset = sources[i] // PAGE_TOKENS, sources[i] % PAGE_TOKENS
        to_page, to_offset = destinations[i] // PAGE_TOKENS, destinations[i] % PAGE_TOKENS
        for head in range(kv_heads):
            source = (from_page * kv_heads + head) * padded * PAGE_TOKENS
            destination = (to_page * kv_heads + head) * padded * PAGE_TOKENS
            for j in range(padded):
                keys[destination + j * PAGE_TOKENS + to_offset] = keys[
                    source + j * PAGE_TOKENS + from_offset
                ]
                values[destination + to_offset * padded + j] = values[
                    source + from_offset * padded + j
                ]


@compiled
def attend(arrays: Arrays, numbers: Numbers, items: Ints, first_unit: int, end_unit: int) -> None:
    """The attention of some units: an item and a key head each."""
    for unit in range(first_unit, end_unit):
        segment, first, end = items[unit // numbers.kv_heads]
        _attend_unit(arrays, numbers, unit % numbers.kv_heads, segment, first, end)


@compiled
def _attend_unit(
    arrays: Arrays, numbers: Numbers, head: int, segment: int, first: int, end: int
) -> None:
    """The rows `first` to `end` of a segment, for the query heads that share one key head.

    Scores are held for all of them, [query rows, columns]: a column for each token from the first
    page that any of them sees. Rows from `end` on come later, so none of these sees them.
    """
    length = arrays.lengths[segment]
    num_queries = (end - first) * numbers.group
    rounded = -(-num_queries // _GROUP) * _GROUP
    first_page = _first_page(arrays, numbers, segment, first, end)
    end_page = -(-(length + end) // PAGE_TOKENS)
    columns = (end_page - first_page) * PAGE_TOKENS
    scores = np.empty(rounded * columns, np.float32)
    grouped = np.zeros(rounded * numbers.padded, np.float32)
    sums = np.zeros(rounded * numbers.padded, np.float32)
    begin = arrays.begins[segment] + first
    _group_queries(arrays, numbers, head, begin, num_queries, grouped)
    for page in range(first_page, end_page):
        at = _page_at(arrays, numbers, head, segment, page)
        ahead = _page_at(arrays, numbers, head, segment, min(page + _AHEAD, end_page - 1))
        column = (page - first_page) * PAGE_TOKENS
        for i in range(0, rounded, _GROUP):
            _score(
                grouped,
                i * numbers.padded,
                arrays.keys,
                at,
                ahead,
                numbers.padded,
                scores,
                i * columns + column,
                columns,
            )
    for i in range(num_queries):
        row_scores = scores[i * columns : (i + 1) * columns]
        row = first + i // numbers.group
        _hide(arrays, numbers, segment, row, end, first_page * PAGE_TOKENS, row_scores)
        _exponentiate(row_scores)
    totals = _add_up(scores, rounded, columns)
    for page in range(first_page, end_page):
        at = _page_at(arrays, numbers, head, segment, page)
        ahead = _page_at(arrays, numbers, head, segment, min(page + _AHEAD, end_page - 1))
        column = (page - first_page) * PAGE_TOKENS
        num_tokens = min(PAGE_TOKENS, length + end - page * PAGE_TOKENS)
        for i in range(0, rounded, _GROUP):
            _mix(
                scores,
                i * columns + column,
                columns,
                arrays.values,
                at,
                ahead,
                num_tokens,
                sums,
                i * numbers.padded,
                numbers.padded,
            )
    for i in range(num_queries):
        place = _query_at(numbers, head, begin, i)
        for j in range(numbers.size):
            arrays.mixed[place + j] = sums[i * numbers.padded + j] / totals[i]


@compiled
def _first_page(arrays: Arrays, numbers: Numbers, segment: int, first: int, end: int) -> Any:
    """The first page that any of the rows sees."""
    if numbers.window == 0:
        return 0
    begin = arrays.begins[segment]
    lowest = arrays.positions[begin + first : begin + end].min()
    oldest = max(lowest - numbers.window + 1, 0)
    return min(oldest, arrays.lengths[segment]) // PAGE_TOKENS


@compiled
def _page_at(arrays: Arrays, numbers: Numbers, head: int, segment: int, page: int) -> Any:
    """Where a page of one key head begins."""
    number = arrays.page_tables[segment, page] * numbers.kv_heads + head
    return number * numbers.padded * PAGE_TOKENS


@compiled
def _query_at(numbers: Numbers, head: int, begin: int, i: int) -> int:
    """Where query row i begins, of the rows from `begin` on; also where its result does."""
    row = begin + i // numbers.group
    number = (row * numbers.kv_heads + head) * numbers.group + i % numbers.group
    return number * numbers.size


@compiled
def _group_queries(
    arrays: Arrays, numbers: Numbers, head: int, begin: int, num_queries: int, grouped: Floats
) -> None:
    """Scaled query rows, four interleaved: [rounded / 4, padded, 4]."""
    for i in range(num_queries):
        source = _query_at(numbers, head, begin, i)
        place = (i // _GROUP) * _GROUP * numbers.padded + i % _GROUP
        for j in range(numbers.size):
            grouped[place + _GROUP * j] = arrays.query[source + j] * numbers.scaling


@compiled
def _hide(
    arrays: Arrays, numbers: Numbers, segment: int, row: int, end: int, start: int, scores: Floats
) -> None:
    """Set to minus infinity what a row does not see; column 0 is position `start`."""
    length, begin = arrays.lengths[segment], arrays.begins[segment]
    num_rows = arrays.begins[segment + 1] - begin
    seen = arrays.sees_begins[segment] + row * num_rows
    own = length - start
    oldest = arrays.positions[begin + row] - numbers.window + 1 if numbers.window else 0
    for j in range(min(oldest, length) - start):
        scores[j] = -np.inf
    for j in range(end):
        if not arrays.sees[seen + j] or arrays.positions[begin + j] < oldest:
            scores[own + j] = -np.inf
    scores[own + end :] = -np.inf


@compiled
def _exponentiate(scores: Floats) -> None:
    """exp(score - the largest), in place."""
    largest = load8(scores, 0)
    for i in range(LANES, len(scores), LANES):
        largest = max8(largest, load8(scores, i))
    top = lane8(largest, 0)
    for lane in range(1, LANES):
        top = max(top, lane8(largest, lane))
    shift = splat8(-top)
    for i in range(0, len(scores), LANES):
        store8(scores, i, exp8(add8(load8(scores, i), shift)))


@compiled
def _add_up(weights: Floats, num_queries: int, columns: int) -> Floats:
    """The sum of each query row, [query rows]; four at a time.

    One column after the other, so that hidden columns, which are zero, change no bit of it.
    """
    totals = np.empty(num_queries, np.float32)
    for i in range(0, num_queries, _GROUP):
        at = i * columns
        a = b = c = d = np.float32(0)
        for column in range(at, at + columns):
            a += weights[column]
            b += weights[column + columns]
            c += weights[column + 2 * columns]
            d += weights[column + 3 * columns]
        totals[i], totals[i + 1], totals[i + 2], totals[i + 3] = a, b, c, d
    return totals


@compiled
def _score(
    grouped: Floats,
    q: int,
    keys: Floats,
    at: int,
    ahead: int,
    padded: int,
    scores: Floats,
    s: int,
    columns: int,
) -> None:
    """Four query rows times the 16 keys of a page."""
    a0 = a1 = b0 = b1 = c0 = c1 = d0 = d1 = splat8(np.float32(0))
    for i in range(padded):
        prefetch(keys, ahead + PAGE_TOKENS * i)
        k0 = load8(keys, at + PAGE_TOKENS * i)
        k1 = load8(keys, at + PAGE_TOKENS * i + LANES)
        x = splat8(grouped[q + _GROUP * i])
        a0, a1 = fma8(x, k0, a0), fma8(x, k1, a1)
        x = splat8(grouped[q + _GROUP * i + 1])
        b0, b1 = fma8(x, k0, b0), fma8(x, k1, b1)
        x = splat8(grouped[q + _GROUP * i + 2])
        c0, c1 = fma8(x, k0, c0), fma8(x, k1, c1)
        x = splat8(grouped[q + _GROUP * i + 3])
        d0, d1 = fma8(x, k0, d0), fma8(x, k1, d1)
    _store16(scores, s, a0, a1)
    _store16(scores, s + columns, b0, b1)
    _store16(scores, s + 2 * columns, c0, c1)
    _store16(scores, s + 3 * columns, d0, d1)


@compiled
def _mix(
    weights: Floats,
    w: int,
    columns: int,
    values: Floats,
    at: int,
    ahead: int,
    num_tokens: int,
    sums: Floats,
    s: int,
    padded: int,
) -> None:
    """Add the values of a page to the sums of four query rows, 16 numbers at a time."""
    for chunk in range(0, padded, 2 * LANES):
        p = s + chunk
        a0, a1 = load8(sums, p), load8(sums, p + LANES)
        b0, b1 = load8(sums, p + padded), load8(sums, p + padded + LANES)
        c0, c1 = load8(sums, p + 2 * padded), load8(sums, p + 2 * padded + LANES)
        d0, d1 = load8(sums, p + 3 * padded), load8(sums, p + 3 * padded + LANES)
        for token in range(num_tokens):
            v = token * padded + chunk
            prefetch(values, ahead + v)
            v0, v1 = load8(values, at + v), load8(values, at + v + LANES)
            x = splat8(weights[w + token])
            a0, a1 = fma8(x, v0, a0), fma8(x, v1, a1)
            x = splat8(weights[w + columns + token])
            b0, b1 = fma8(x, v0, b0), fma8(x, v1, b1)
            x = splat8(weights[w + 2 * columns + token])
            c0, c1 = fma8(x, v0, c0), fma8(x, v1, c1)
            x = splat8(weights[w + 3 * columns + token])
            d0, d1 = fma8(x, v0, d0), fma8(x, v1, d1)
        _store16(sums, p, a0, a1)
        _store16(sums, p + padded, b0, b1)
        _store16(sums, p + 2 * padded, c0, c1)
        _store16(sums, p + 3 * padded, d0, d1)


@compiled
def _store16(array: Floats, at: int, first: Any, second: Any) -> None:
    store8(array, at, first)
    store8(array, at + LANES, second)
