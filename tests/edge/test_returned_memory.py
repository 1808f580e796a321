"""Memory that is given back while its array stays."""

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider_edge.returned_memory import ReturnedMemory

PAGE = mmap.PAGESIZE


def num_resident(piece: NDArray[Any]) -> int:
    """How many pages of a piece the system holds, by its own account (pagemap, bit 63)."""
    first, last = piece.ctypes.data // PAGE, (piece.ctypes.data + piece.nbytes - 1) // PAGE
    with Path("/proc/self/pagemap").open("rb") as pages:
        pages.seek(8 * first)
        entries = np.frombuffer(pages.read(8 * (last - first + 1)), np.uint64)
    return int((entries >> np.uint64(63)).sum())


def test_what_is_given_back_is_not_held_any_more_and_the_rest_is() -> None:
    memory = ReturnedMemory((4, 64 * PAGE), np.uint8)
    memory.array[1:3] = 7
    assert [num_resident(row) for row in memory.array[1:3]] == [64, 64]
    memory.give_back(memory.array[1])
    assert [num_resident(row) for row in memory.array[1:3]] == [0, 64]
    assert not memory.array[1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_it_is_an_array_of_zeros_of_any_kind(dtype: type) -> None:
    array = ReturnedMemory((2, 3, 5), dtype).array  # and keeps its memory
    assert array.shape == (2, 3, 5)
    assert array.dtype == dtype
    assert not array.any()
    array[...] = 1
    assert array.sum() == 30


@given(rows=st.integers(1, 6), columns=st.integers(1, 3 * PAGE), data=st.data())
def test_nothing_but_the_piece_is_forgotten(rows: int, columns: int, data: st.DataObject) -> None:
    memory = ReturnedMemory((rows, columns), np.uint8)
    memory.array[...] = 1
    row = data.draw(st.integers(0, rows - 1))
    begin = data.draw(st.integers(0, columns - 1))
    piece = memory.array[row, begin:]
    memory.give_back(piece)
    assert piece.sum() <= 2 * (PAGE - 1)  # whole pages go
    piece[...] = 1
    assert memory.array.all()
